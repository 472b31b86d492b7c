// Checks, scratch memory and launches of decode.
#include <cmath>
#include <string>

#include "attention/cuda/decode_launch.h"
#include "attention/cuda/decode_select.h"
#include "attention/cuda/device.h"
#include "attention/cuda/scratch.h"
#include "attention/cuda/status.h"

namespace tessera::attention::cuda {
namespace {

[[noreturn]] void reject(const std::string& message) {
  throw Error(ErrorCode::invalid_argument, "CUDA decode: " + message);
}

std::string shape_text(const DeviceView& view) {
  std::string text = "[";
  for (int axis = 0; axis < view.rank && axis < 4; ++axis) {
    text += (axis ? ", " : "") + std::to_string(view.shape[static_cast<size_t>(axis)]);
  }
  return text + "]";
}

void check_aligned(const void* data, const char* name) {
  if (data == nullptr) reject(std::string(name) + " has no data");
  if (reinterpret_cast<uintptr_t>(data) % 16 != 0) reject(std::string(name) + " must be aligned to 16 bytes");
}

// Contiguous channels, other strides multiples of 16 bytes.
void check_view(const DeviceView& view, int rank, const char* name) {
  const std::string prefix = name;
  if (view.rank != rank) {
    reject(prefix + " must have " + std::to_string(rank) + " dimensions, found " + shape_text(view));
  }
  const auto last = static_cast<size_t>(rank - 1);
  if (view.strides[last] != 1) reject(prefix + " must be contiguous in its last dimension; copy it first");
  const int64_t step = 16 / element_bytes(view.type);
  for (size_t axis = 0; axis < last; ++axis) {
    if (view.shape[axis] < 0 || (view.shape[axis] > 1 && (view.strides[axis] <= 0 || view.strides[axis] % step != 0))) {
      reject(prefix + " must have positive strides that are multiples of 16 bytes, found stride " +
             std::to_string(view.strides[axis]) + " elements in dimension " + std::to_string(axis));
    }
  }
  if (view.shape[0] > 0) check_aligned(view.data, name);
}

void check_cache(const PagedCache& cache, bool needs_bounds) {
  if (cache.format > PageFormat::int4) {
    reject("the page format must be bf16, fp8, int8 or int4, found number " +
           std::to_string(static_cast<int>(cache.format)));
  }
  if (cache.head_dim != 64 && cache.head_dim != 96 && cache.head_dim != 128 && cache.head_dim != 256) {
    reject("head_dim must be 64, 96, 128 or 256, found " + std::to_string(cache.head_dim));
  }
  if (cache.kv_heads < 1) reject("kv_heads must be at least 1, found " + std::to_string(cache.kv_heads));
  if (cache.table_heads != 1 && cache.table_heads != cache.kv_heads) {
    reject("table_heads must be 1 or kv_heads " + std::to_string(cache.kv_heads) + ", found " +
           std::to_string(cache.table_heads));
  }
  if (cache.table_stride < 1 || cache.table_stride > (1 << 24)) {
    reject("table_stride must be 1 to 2^24 pages, found " + std::to_string(cache.table_stride));
  }
  check_aligned(cache.keys, "the key pool");
  check_aligned(cache.values, "the value pool");
  if (needs_bounds || cache.bounds != nullptr) check_aligned(cache.bounds, "the pool of bounds");
  if (cache.table == nullptr || cache.lengths == nullptr) reject("the cache needs a table and lengths");
}

void check_selection(const DecodeArguments& arguments) {
  const PageSelection& selection = arguments.selection;
  if (selection.pages == 0) {
    if (arguments.selected != nullptr) reject("`selected` needs selection.pages > 0");
    return;
  }
  if (selection.pages < 0 || selection.first_pages < 0 || selection.last_pages < 1) {
    reject("a selection needs pages >= 0, first_pages >= 0 and last_pages >= 1, found " +
           std::to_string(selection.pages) + ", " + std::to_string(selection.first_pages) + " and " +
           std::to_string(selection.last_pages));
  }
  if (int64_t{selection.first_pages} + selection.last_pages > selection.pages) {
    reject("the forced pages " + std::to_string(selection.first_pages) + " + " + std::to_string(selection.last_pages) +
           " must not exceed the " + std::to_string(selection.pages) + " selected ones");
  }
  if (arguments.cache.table_stride > kMaxSelectable) {
    reject("a selection reads at most " + std::to_string(kMaxSelectable) + " pages per sequence, found table_stride " +
           std::to_string(arguments.cache.table_stride));
  }
}

void check_pointer(const void* pointer, const char* name) {
  if (pointer == nullptr) return;
  int device = 0;
  check_cuda(cudaGetDevice(&device), "looking for a GPU");
  cudaPointerAttributes attributes = {};
  check_cuda(cudaPointerGetAttributes(&attributes, pointer), "looking up a pointer");
  const bool managed = attributes.type == cudaMemoryTypeManaged;
  if (!managed && (attributes.type != cudaMemoryTypeDevice || attributes.device != device)) {
    reject(std::string(name) + " must lie on GPU " + std::to_string(device) + ", found " +
           (attributes.type == cudaMemoryTypeDevice ? "GPU " + std::to_string(attributes.device) : "host memory"));
  }
}

void check_cache_pointers(const PagedCache& cache) {
  check_pointer(cache.keys, "the key pool");
  check_pointer(cache.values, "the value pool");
  check_pointer(cache.bounds, "the pool of bounds");
  check_pointer(cache.table, "the table");
  check_pointer(cache.lengths, "lengths");
}

// The problem with its scratch memory; without memory, the bytes it needs.
DecodeProblem make_problem(const DecodeArguments& arguments, void* memory, size_t& bytes) {
  const DeviceView& q = arguments.queries;
  const PagedCache& cache = arguments.cache;
  DecodeProblem problem = {};
  problem.queries = static_cast<const uint16_t*>(q.data);
  problem.out = arguments.out.data;
  problem.lse = static_cast<float*>(arguments.lse.data);
  for (size_t axis = 0; axis < 2; ++axis) {
    problem.query_stride[axis] = q.strides[axis];
    problem.out_stride[axis] = arguments.out.strides[axis];
  }
  problem.lse_stride = arguments.lse.strides[0];
  problem.keys = static_cast<const uint8_t*>(cache.keys);
  problem.values = static_cast<const uint8_t*>(cache.values);
  problem.bounds = static_cast<const uint8_t*>(cache.bounds);
  problem.table = cache.table;
  problem.lengths = cache.lengths;
  problem.sequences = static_cast<int32_t>(q.shape[0]);
  problem.query_heads = static_cast<int32_t>(q.shape[1]);
  problem.kv_heads = cache.kv_heads;
  problem.head_dim = cache.head_dim;
  problem.group = problem.query_heads / problem.kv_heads;
  problem.passes = (problem.group + kHeadsPerPass - 1) / kHeadsPerPass;
  problem.table_heads = cache.table_heads;
  problem.table_stride = cache.table_stride;
  problem.budget = arguments.selection.pages;
  problem.first_pages = arguments.selection.first_pages;
  problem.last_pages = arguments.selection.last_pages;
  problem.blocks = multiprocessors();
  const float scale = arguments.scale > 0 ? arguments.scale : 1.0F / std::sqrt(static_cast<float>(cache.head_dim));
  problem.scale_log2 = scale * 1.44269504F;
  problem.out_is_float = arguments.out.type == ElementType::f32;

  Scratch scratch(memory);
  const int64_t lists = int64_t{problem.sequences} * problem.kv_heads;
  const int64_t rows = slot_count(problem.blocks, lists * problem.passes) * kHeadsPerPass;
  problem.partial_out = scratch.take<float>(rows * problem.head_dim);
  problem.partial_max = scratch.take<float>(rows);
  problem.partial_sum = scratch.take<float>(rows);
  if (problem.budget > 0) {
    problem.page_scores = scratch.take<float>(lists * problem.table_stride);
    problem.selection = scratch.take<int32_t>(lists * problem.budget);
    problem.arrivals = scratch.take<int32_t>(lists * problem.passes);
    problem.keeps_selection = arguments.selected != nullptr;
    if (problem.keeps_selection) problem.selection = arguments.selected;
    constexpr int64_t kCache = int64_t{40} << 20;  // of the 50 MB of L2
    const PageBytes page = page_bytes(cache.format, cache.head_dim);
    if (lists * problem.budget * (page.key + page.value) <= kCache) {
      problem.prefetch_bytes[0] = static_cast<int32_t>(page.key);
      problem.prefetch_bytes[1] = static_cast<int32_t>(page.value);
    }
  }
  bytes = scratch.used();
  return problem;
}

}  // namespace

void check(const DecodeArguments& arguments) {
  const DeviceView& q = arguments.queries;
  if (q.type != ElementType::bf16) reject("queries must be bf16");
  if (arguments.out.type == ElementType::f16) reject("out must be bf16 or f32, found f16");
  check_view(q, 3, "queries");
  check_view(arguments.out, 3, "out");
  check_cache(arguments.cache, arguments.selection.pages > 0);
  if (q.shape[2] != arguments.cache.head_dim) {
    reject("queries must have the cache's head_dim " + std::to_string(arguments.cache.head_dim) + ", found " +
           shape_text(q));
  }
  if (q.shape[1] < 1 || q.shape[1] % arguments.cache.kv_heads != 0) {
    reject("query_heads must be a multiple of kv_heads, found " + std::to_string(q.shape[1]) + " and " +
           std::to_string(arguments.cache.kv_heads));
  }
  if (q.shape[0] * q.shape[1] > (1 << 24) || q.shape[0] > 65535 / arguments.cache.kv_heads) {
    reject("sequences times kv_heads must be at most 65535, found queries " + shape_text(q));
  }
  if (q.shape[0] * q.shape[1] * arguments.cache.table_stride > 0x7fffffff) {
    reject("sequences times query_heads times table_stride must be below 2^31, found queries " + shape_text(q) +
           " and table_stride " + std::to_string(arguments.cache.table_stride));
  }
  if (arguments.out.shape != q.shape) {
    reject("out must have the queries' shape " + shape_text(q) + ", found " + shape_text(arguments.out));
  }
  const DeviceView& lse = arguments.lse;
  if (lse.rank != 2 || lse.type != ElementType::f32 || lse.shape[0] != q.shape[0] || lse.shape[1] != q.shape[1] ||
      lse.strides[1] != 1 || (lse.data == nullptr && q.shape[0] > 0)) {
    reject("lse must be f32 [sequences, query_heads] with contiguous heads, found " + shape_text(lse));
  }
  if (!(arguments.scale >= 0) || !std::isfinite(arguments.scale)) {
    reject("scale must be finite and not negative, found " + std::to_string(arguments.scale));
  }
  check_selection(arguments);
}

void check(const PageWrite& write) {
  if (write.keys.type != ElementType::bf16 || write.values.type != ElementType::bf16) reject("rows must be bf16");
  check_view(write.keys, 4, "keys");
  check_view(write.values, 4, "values");
  check_cache(write.cache, false);
  const auto& shape = write.keys.shape;
  if (write.values.shape != shape || shape[2] != write.cache.kv_heads || shape[3] != write.cache.head_dim) {
    reject("keys and values must be [sequences, rows, " + std::to_string(write.cache.kv_heads) + ", " +
           std::to_string(write.cache.head_dim) + "], found " + shape_text(write.keys) + " and " +
           shape_text(write.values));
  }
  if (shape[0] > 65535 || shape[2] > 65535 || shape[1] > (1 << 30)) {
    reject("at most 65535 sequences and KV heads and 2^30 rows, found " + shape_text(write.keys));
  }
}

size_t workspace_bytes(const DecodeArguments& arguments) {
  check(arguments);
  size_t bytes = 0;
  make_problem(arguments, nullptr, bytes);
  return bytes;
}

void decode(const DecodeArguments& arguments, const Launch& launch) {
  check(arguments);
  kernel_for(compute_capability());
  size_t needed = 0;
  const DecodeProblem problem = make_problem(arguments, launch.data, needed);
  if (launch.bytes < needed || launch.data == nullptr || reinterpret_cast<uintptr_t>(launch.data) % 256 != 0) {
    reject("scratch memory of " + std::to_string(needed) + " bytes aligned to 256 is needed, found " +
           std::to_string(launch.bytes) + "; see workspace_bytes()");
  }
  check_pointer(arguments.queries.data, "queries");
  check_pointer(arguments.out.data, "out");
  check_pointer(arguments.lse.data, "lse");
  check_pointer(arguments.selected, "selected");
  check_pointer(launch.data, "scratch memory");
  check_cache_pointers(arguments.cache);
  if (problem.sequences == 0) return;
  check_cuda(launch_decode(problem, arguments.cache.format, static_cast<cudaStream_t>(launch.stream)),
             "launching decode");
}

void write_pages(const PageWrite& write, void* stream) {
  check(write);
  kernel_for(compute_capability());
  check_pointer(write.keys.data, "keys");
  check_pointer(write.values.data, "values");
  check_pointer(write.first_page, "first_page");
  check_cache_pointers(write.cache);
  PageWriteProblem problem = {};
  problem.keys = static_cast<const uint16_t*>(write.keys.data);
  problem.values = static_cast<const uint16_t*>(write.values.data);
  for (size_t axis = 0; axis < 3; ++axis) {
    problem.key_stride[axis] = write.keys.strides[axis];
    problem.value_stride[axis] = write.values.strides[axis];
  }
  problem.key_pool = static_cast<uint8_t*>(write.cache.keys);
  problem.value_pool = static_cast<uint8_t*>(write.cache.values);
  problem.bounds = static_cast<uint8_t*>(write.cache.bounds);
  problem.table = write.cache.table;
  problem.lengths = write.cache.lengths;
  problem.first_page = write.first_page;
  problem.sequences = static_cast<int32_t>(write.keys.shape[0]);
  problem.rows = static_cast<int32_t>(write.keys.shape[1]);
  problem.kv_heads = write.cache.kv_heads;
  problem.head_dim = write.cache.head_dim;
  problem.table_heads = write.cache.table_heads;
  problem.table_stride = write.cache.table_stride;
  if (problem.sequences == 0 || problem.rows == 0) return;
  check_cuda(launch_page_write(problem, write.cache.format, static_cast<cudaStream_t>(stream)),
             "launching write_pages");
}

}  // namespace tessera::attention::cuda
