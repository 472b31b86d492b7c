// The probe of probe.h on wgmma, for compute capability 9.0 and head_dim up to 128, whose queries fit into registers:
// the same masses but for the order of additions.
#pragma once

#include <cuda.h>

#include "attention/cuda/probe.h"

namespace tessera::attention::cuda {

constexpr int kHopperProbeHeadDim = 128;  // at most

struct ProbeFormat {
  bool half_precision = false;
  void* stream = nullptr;
};

// Statistics, then masses. keys: of the sequence's keys, in boxes of kProbeKeys rows. Returns a cudaError_t as int.
int launch_hopper_probe(const Probe& probe, const CUtensorMap& keys, ProbeKind kind, const ProbeFormat& format);

}  // namespace tessera::attention::cuda
