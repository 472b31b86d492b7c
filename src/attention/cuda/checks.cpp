// Argument checks that need no device.
#include <string>

#include "tessera/attention/cuda.h"

namespace tessera::attention::cuda {
namespace {

[[noreturn]] void reject(const std::string& message) {
  throw Error(ErrorCode::invalid_argument, "CUDA attention: " + message);
}

std::string shape_text(const DeviceView& view) {
  std::string text = "[";
  for (int axis = 0; axis < view.rank && axis < 4; ++axis) {
    text += (axis ? ", " : "") + std::to_string(view.shape[static_cast<size_t>(axis)]);
  }
  return text + "]";
}

void check_rows_heads_channels(const DeviceView& view, const char* name, ElementType type) {
  std::string prefix = name;
  if (view.rank != 3) {
    reject(prefix + " must have shape [rows, heads, head_dim], found " + std::to_string(view.rank) + " dimensions");
  }
  if (view.type != type) reject(prefix + " must have the element type of the queries (bf16 or f16)");
  if (view.strides[2] != 1) reject(prefix + " must be contiguous in its last dimension; copy it first");
  for (size_t axis = 0; axis < 2; ++axis) {
    if (view.shape[axis] > 1 && (view.strides[axis] <= 0 || view.strides[axis] % 8 != 0)) {
      reject(prefix + " must have positive strides that are multiples of 16 bytes, found stride " +
             std::to_string(view.strides[axis]) + " elements in dimension " + std::to_string(axis));
    }
  }
  if (view.shape[0] > 0 && view.data == nullptr) reject(prefix + " has no data");
  if (reinterpret_cast<uintptr_t>(view.data) % 16 != 0) reject(prefix + " must be aligned to 16 bytes");
  if (view.shape[0] > 0x7fffffff / 2) reject(prefix + " has more rows than the 2^30 that are supported");
}

void check_sequence(const Sequence& sequence, int64_t query_rows, int64_t key_rows, const std::string& name) {
  if (sequence.query_begin < 0 || sequence.query_rows < 0 ||
      int64_t{sequence.query_begin} + sequence.query_rows > query_rows) {
    reject(name + " names query rows outside the " + std::to_string(query_rows) + " of the tensor");
  }
  if (sequence.key_begin < 0 || sequence.key_rows < 0 || int64_t{sequence.key_begin} + sequence.key_rows > key_rows) {
    reject(name + " names key rows outside the " + std::to_string(key_rows) + " of the tensor");
  }
  if (sequence.first_position < 0 || int64_t{sequence.first_position} + sequence.query_rows > (1 << 30)) {
    reject(name + " must have a first_position in [0, 2^30 - query_rows], found " +
           std::to_string(sequence.first_position));
  }
}

}  // namespace

DeviceView contiguous_view(void* data, ElementType type, std::vector<int64_t> shape, int device) {
  if (shape.size() > 4) reject("a view has at most 4 dimensions, found " + std::to_string(shape.size()));
  DeviceView view{.data = data, .type = type, .rank = static_cast<int>(shape.size()), .device = device};
  int64_t stride = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    view.shape[axis] = shape[axis];
    view.strides[axis] = stride;
    stride *= shape[axis];
  }
  return view;
}

int32_t query_tiles(const std::vector<Sequence>& sequences) {
  int32_t tiles = 0;
  for (const Sequence& sequence : sequences) tiles += (sequence.query_rows + kQueryTile - 1) / kQueryTile;
  return tiles;
}

void check(const AttentionArguments& arguments) {
  const DeviceView& q = arguments.queries;
  if (q.type == ElementType::f32) reject("queries must be bf16 or f16, found f32");
  check_rows_heads_channels(q, "queries", q.type);
  check_rows_heads_channels(arguments.keys, "keys", q.type);
  check_rows_heads_channels(arguments.values, "values", q.type);
  check_rows_heads_channels(arguments.out, "out", q.type);
  int64_t head_dim = q.shape[2];
  if (head_dim != 64 && head_dim != 96 && head_dim != 128 && head_dim != 256) {
    reject("head_dim must be 64, 96, 128 or 256, found " + std::to_string(head_dim));
  }
  if (arguments.keys.shape != arguments.values.shape) {
    reject("keys " + shape_text(arguments.keys) + " and values " + shape_text(arguments.values) + " must agree");
  }
  if (arguments.keys.shape[2] != head_dim) {
    reject("keys must have the queries' head_dim " + std::to_string(head_dim) + ", found " +
           shape_text(arguments.keys));
  }
  int64_t query_heads = q.shape[1];
  int64_t kv_heads = arguments.keys.shape[1];
  if (query_heads < 1 || kv_heads < 1 || query_heads % kv_heads != 0) {
    reject("query_heads must be a multiple of kv_heads, found " + std::to_string(query_heads) + " and " +
           std::to_string(kv_heads));
  }
  if (arguments.out.shape != q.shape) {
    reject("out must have the queries' shape " + shape_text(q) + ", found " + shape_text(arguments.out));
  }
  const DeviceView& lse = arguments.lse;
  if (lse.rank != 2 || lse.type != ElementType::f32 || lse.shape[0] != q.shape[0] || lse.shape[1] != query_heads ||
      lse.strides[1] != 1 || (lse.data == nullptr && q.shape[0] > 0)) {
    reject("lse must be f32 [query_rows, query_heads] with contiguous heads, found " + shape_text(lse));
  }
  if (!(arguments.scale >= 0)) reject("scale must be >= 0 (0: 1 / sqrt(head_dim))");
  if (arguments.sequences.empty() || arguments.sequences.size() > kMaxSequences) {
    reject("1 to " + std::to_string(kMaxSequences) + " sequences per call are supported, found " +
           std::to_string(arguments.sequences.size()));
  }
  for (size_t s = 0; s < arguments.sequences.size(); ++s) {
    check_sequence(arguments.sequences[s], q.shape[0], arguments.keys.shape[0], "sequence " + std::to_string(s));
  }
}

void check(const AttentionArguments& arguments, const DeviceWorkList& work) {
  check(arguments);
  bool by_bands = work.band_stride > 0;
  if (by_bands ? work.key_tile != kBandTile : work.key_tile != 128 && work.key_tile != 64) {
    reject(std::string("key_tile must be ") + (by_bands ? "32 with bands" : "128 or 64") + ", found " +
           std::to_string(work.key_tile));
  }
  if (work.band_stride < 0 || (by_bands && (!work.bands || !work.band_cut))) {
    reject("a work list with bands needs bands, band_cut and band_stride > 0");
  }
  if (by_bands && arguments.queries.shape[2] > 128) {
    reject("bands need head_dim 64, 96 or 128, found " + std::to_string(arguments.queries.shape[2]));
  }
  if (by_bands && work.correction_levels > 0) reject("the mean correction needs tiles, found bands");
  if (work.list_heads != arguments.queries.shape[1] && work.list_heads != arguments.keys.shape[1]) {
    reject("list_heads must be query_heads " + std::to_string(arguments.queries.shape[1]) + " or kv_heads " +
           std::to_string(arguments.keys.shape[1]) + ", found " + std::to_string(work.list_heads));
  }
  int32_t tiles = query_tiles(arguments.sequences);
  if (work.query_tiles != tiles) {
    reject("the work list has " + std::to_string(work.query_tiles) + " query tiles, the sequences have " +
           std::to_string(tiles));
  }
  bool no_tiles = !work.tile_begin || (!work.tiles && work.tile_capacity > 0) || work.tile_capacity < 0;
  if (!by_bands && no_tiles) {
    reject("the work list has no tile_begin or tiles");
  }
  if (work.column_stride < 0 || work.column_stride % 128 != 0) {
    reject("column_stride must be a multiple of 128, found " + std::to_string(work.column_stride));
  }
  if (work.column_stride > 0 && (!work.columns || !work.column_count || !work.column_cut)) {
    reject("a work list with columns needs columns, column_count and column_cut");
  }
  if (work.correction_levels < 0 || work.correction_levels > 2) {
    reject("correction_levels must be 0, 1 or 2, found " + std::to_string(work.correction_levels));
  }
}

}  // namespace tessera::attention::cuda
