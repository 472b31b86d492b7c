// From the work lists of the CPU selectors to those of the GPU kernels.
//
//   cuda::PackedWorkList packed = cuda::pack(selector->select(input, context), 128);
//   cuda::UploadedWorkList uploaded(packed);
//   cuda::attend(arguments, uploaded.view(), launch);
//
// The GPU's query tiles have 128 rows, the CPU's 64: a packed list is the union of two, and with key tiles of 128 a
// tile is listed when either half is. So the packed list names every pair that the original names, and possibly more.
#pragma once

#include <cstdint>
#include <vector>

#include "tessera/attention/cuda.h"
#include "tessera/attention/work_list.h"

namespace tessera::attention::cuda {

// Host copies of the arrays of DeviceWorkList, for one sequence.
struct PackedWorkList {
  int32_t key_tile = 128;
  int32_t list_heads = 0;
  int32_t query_tiles = 0;
  int32_t column_stride = 0;
  std::vector<int32_t> tile_begin;
  std::vector<uint32_t> tiles;
  std::vector<int32_t> columns, column_count, column_cut;
};

// One list per query head. Throws Error(invalid_argument) when key_tile is neither 64 nor 128, Error(unsupported) for
// rows with gaps between their positions, Error(limit_exceeded) for more than 2^24 tiles of keys or 2^31 entries.
PackedWorkList pack(const WorkList& work, int32_t key_tile);

// Owns device copies. Throws Error(unsupported) without a GPU.
class UploadedWorkList {
 public:
  explicit UploadedWorkList(const PackedWorkList& packed);
  ~UploadedWorkList();
  UploadedWorkList(const UploadedWorkList&) = delete;
  UploadedWorkList& operator=(const UploadedWorkList&) = delete;

  const DeviceWorkList& view() const { return view_; }

 private:
  void* memory_ = nullptr;
  DeviceWorkList view_;
};

}  // namespace tessera::attention::cuda
