#include "attention/cuda/hopper_instance.cuh"

namespace tessera::attention::cuda {

cudaError_t launch_hopper_96(const HopperLaunch& launch) { return launch_hopper<96>(launch); }

}  // namespace tessera::attention::cuda
