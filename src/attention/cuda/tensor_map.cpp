#include "attention/cuda/tensor_map.h"

#include <cuda_runtime_api.h>

#include <string>

#include "attention/cuda/layout.h"
#include "attention/cuda/status.h"

namespace tessera::attention::cuda {
namespace {

using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*,
                            const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                            CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

// From the driver that is loaded, so that nothing links against it.
Encode encode_function() {
  static Encode function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result = {};
    check_cuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result),
               "looking for cuTensorMapEncodeTiled");
    if (result != cudaDriverEntryPointSuccess || found == nullptr) {
      throw Error(ErrorCode::unsupported,
                  "CUDA: the driver has no cuTensorMapEncodeTiled; update it to version 525 or later");
    }
    return reinterpret_cast<Encode>(found);
  }();
  return function;
}

}  // namespace

TensorMapArguments tensor_map_arguments(const TensorMapSource& source) {
  auto bytes = [](int64_t elements) { return static_cast<cuuint64_t>(elements) * 2; };
  // The stride of a dimension of one entry is never used, but must be valid.
  int64_t head_stride = source.heads > 1 ? source.head_stride : source.head_dim;
  int64_t row_stride = source.rows > 1 ? source.row_stride : source.heads * source.head_dim;
  return {{static_cast<cuuint64_t>(source.head_dim), static_cast<cuuint64_t>(source.heads),
           static_cast<cuuint64_t>(source.rows)},
          {bytes(head_stride), bytes(row_stride)},
          {kBoxChannels, 1, static_cast<cuuint32_t>(source.box_rows)}};
}

CUtensorMap encode_tensor_map(const TensorMapSource& source) {
  TensorMapArguments arguments = tensor_map_arguments(source);
  cuuint32_t element_strides[3] = {1, 1, 1};
  CUtensorMap map = {};
  CUresult result = encode_function()(
      &map, source.half_precision ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3,
      const_cast<void*>(source.data), arguments.dimensions, arguments.strides, arguments.box, element_strides,
      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw Error(ErrorCode::internal, "CUDA: cuTensorMapEncodeTiled failed with code " + std::to_string(result) +
                                         " for " + std::to_string(source.rows) + " rows of " +
                                         std::to_string(source.heads) + " heads of " + std::to_string(source.head_dim) +
                                         " channels");
  }
  return map;
}

}  // namespace tessera::attention::cuda
