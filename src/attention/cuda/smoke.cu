// Compiles every wrapper once.
#include "attention/cuda/ptx.cuh"
namespace tessera::attention::cuda {
__global__ void smoke(float* out) { out[threadIdx.x] = ptx::exp2_approximate(out[threadIdx.x]); }
}  // namespace tessera::attention::cuda
