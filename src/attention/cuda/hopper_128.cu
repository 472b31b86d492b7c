#include "attention/cuda/hopper_instance.cuh"

namespace tessera::attention::cuda {

cudaError_t launch_hopper_128(const HopperLaunch& launch) { return launch_hopper<128>(launch); }

}  // namespace tessera::attention::cuda
