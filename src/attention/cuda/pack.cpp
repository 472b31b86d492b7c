#include "tessera/attention/cuda_pack.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <string>

#include "attention/cuda/problem.h"
#include "attention/cuda/status.h"

namespace tessera::attention::cuda {
namespace {

constexpr int kCpuTile = 64;

QueryTile tile_of(const WorkList& work, int32_t tile) {
  int64_t first = int64_t{tile} * kQueryTile;
  return {0, static_cast<int32_t>(first), static_cast<int32_t>(std::min<int64_t>(kQueryTile, work.query_rows - first)),
          static_cast<int32_t>(work.first_position + first)};
}

// Ascending, distinct key tiles that the 64-row query tiles of `tile` name and that it sees.
std::vector<int32_t> listed_tiles(const WorkList& work, const HeadWork& head, int32_t tile, int32_t key_tile) {
  int32_t visible = visible_tiles(tile_of(work, tile), static_cast<int32_t>(work.key_rows), key_tile);
  std::vector<int32_t> tiles;
  if (head.dense) {
    for (int32_t key = 0; key < visible; ++key) tiles.push_back(key);
    return tiles;
  }
  size_t first = static_cast<size_t>(tile) * 2;
  size_t last = std::min<size_t>(first + 2, static_cast<size_t>(work.query_tiles()));
  for (int64_t i = head.tile_begin[first]; i < head.tile_begin[last]; ++i) {
    int32_t key = head.tiles[static_cast<size_t>(i)] / (key_tile / kCpuTile);
    if (key < visible) tiles.push_back(key);
  }
  std::sort(tiles.begin(), tiles.end());
  tiles.erase(std::unique(tiles.begin(), tiles.end()), tiles.end());
  return tiles;
}

int32_t column_cut(const HeadWork& head, int32_t tile) {
  if (head.column_end.empty()) return 0;
  return head.column_end[std::min(static_cast<size_t>(tile) * 2 + 1, head.column_end.size() - 1)];
}

}  // namespace

PackedWorkList pack(const WorkList& work, int32_t key_tile) {
  if (key_tile != 64 && key_tile != 128) {
    throw Error(ErrorCode::invalid_argument,
                "CUDA attention: key_tile must be 128 or 64, found " + std::to_string(key_tile));
  }
  if (!work.visible.empty()) {
    throw Error(
        ErrorCode::unsupported,
        "CUDA attention: rows with gaps between their positions are not supported; select over a gapless cache");
  }
  if (work.key_rows / key_tile > static_cast<int64_t>(kTileIndex) ||
      work.first_position + work.query_rows > (1 << 30)) {
    throw Error(ErrorCode::limit_exceeded,
                "CUDA attention: at most 2^30 positions and 2^24 key tiles are supported, found " +
                    std::to_string(work.key_rows) + " key rows");
  }
  PackedWorkList packed;
  packed.key_tile = key_tile;
  packed.list_heads = static_cast<int32_t>(work.heads.size());
  packed.query_tiles = static_cast<int32_t>((work.query_rows + kQueryTile - 1) / kQueryTile);
  size_t longest = 0;
  for (const HeadWork& head : work.heads) longest = std::max(longest, head.columns.size());
  packed.column_stride = static_cast<int32_t>((longest + 127) / 128 * 128);
  packed.tile_begin = {0};
  for (const HeadWork& head : work.heads) {
    for (int32_t tile = 0; tile < packed.query_tiles; ++tile) {
      for (int32_t key : listed_tiles(work, head, tile, key_tile)) {
        bool masked = needs_mask(tile_of(work, tile), static_cast<int32_t>(work.key_rows), key_tile, key);
        packed.tiles.push_back(static_cast<uint32_t>(key) | (masked ? kMaskedTile : 0u));
      }
      if (packed.tiles.size() > 0x7fffffffu) {
        throw Error(ErrorCode::limit_exceeded, "CUDA attention: a work list may have at most 2^31 - 1 entries");
      }
      packed.tile_begin.push_back(static_cast<int32_t>(packed.tiles.size()));
      if (packed.column_stride > 0) packed.column_cut.push_back(column_cut(head, tile));
    }
    if (packed.column_stride > 0) {
      packed.columns.insert(packed.columns.end(), head.columns.begin(), head.columns.end());
      packed.columns.resize(packed.columns.size() + static_cast<size_t>(packed.column_stride) - head.columns.size());
      packed.column_count.push_back(static_cast<int32_t>(head.columns.size()));
    }
  }
  return packed;
}

UploadedWorkList::UploadedWorkList(const PackedWorkList& packed) {
  auto padded = [](size_t count) { return (count * 4 + 255) / 256 * 256; };
  size_t bytes = padded(packed.tile_begin.size()) + padded(packed.tiles.size()) + padded(packed.columns.size()) +
                 padded(packed.column_count.size()) + padded(packed.column_cut.size());
  check_cuda(cudaMalloc(&memory_, bytes), "allocating a work list");
  auto* at = static_cast<unsigned char*>(memory_);
  auto copy = [&](const auto& values) {
    auto* here = at;
    if (!values.empty()) {
      check_cuda(cudaMemcpy(here, values.data(), values.size() * 4, cudaMemcpyHostToDevice), "copying a work list");
    }
    at += padded(values.size());
    return here;
  };
  try {
    view_.tile_begin = reinterpret_cast<int32_t*>(copy(packed.tile_begin));
    view_.tiles = reinterpret_cast<uint32_t*>(copy(packed.tiles));
    view_.columns = reinterpret_cast<int32_t*>(copy(packed.columns));
    view_.column_count = reinterpret_cast<int32_t*>(copy(packed.column_count));
    view_.column_cut = reinterpret_cast<int32_t*>(copy(packed.column_cut));
  } catch (...) {
    cudaFree(memory_);
    throw;
  }
  view_.key_tile = packed.key_tile;
  view_.list_heads = packed.list_heads;
  view_.query_tiles = packed.query_tiles;
  view_.tile_capacity = static_cast<int64_t>(packed.tiles.size());
  view_.column_stride = packed.column_stride;
}

UploadedWorkList::~UploadedWorkList() { cudaFree(memory_); }

}  // namespace tessera::attention::cuda
