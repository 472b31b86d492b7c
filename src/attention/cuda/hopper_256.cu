#include "attention/cuda/hopper_instance.cuh"

namespace tessera::attention::cuda {

cudaError_t launch_hopper_256(const HopperLaunch& launch) { return launch_hopper<256>(launch); }

}  // namespace tessera::attention::cuda
