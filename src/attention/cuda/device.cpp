// The GPU that a call runs on.
#include "attention/cuda/device.h"

#include <string>

#include "attention/cuda/status.h"
#include "tessera/attention/cuda.h"

namespace tessera::attention::cuda {

int compute_capability() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "looking for a GPU");
  int major = 0;
  int minor = 0;
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
             "reading the compute capability");
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
             "reading the compute capability");
  return major * 10 + minor;
}

int multiprocessors() {
  int device = 0;
  int count = 0;
  check_cuda(cudaGetDevice(&device), "looking for a GPU");
  check_cuda(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "counting multiprocessors");
  return count;
}

Kernel kernel_for(int capability) {
  if (capability == 90) return Kernel::wgmma;
  if (capability >= 80) return Kernel::mma_sync;
  throw Error(ErrorCode::unsupported, "CUDA attention needs a GPU of compute capability 8.0 or later, found " +
                                          std::to_string(capability / 10) + "." + std::to_string(capability % 10));
}

}  // namespace tessera::attention::cuda
