// Decode on NVIDIA GPUs: one new query row per sequence against a paged KV cache, dense or over selected pages.
//
//   cuda::PagedCache cache{.format = cuda::PageFormat::int8, .kv_heads = 8, .head_dim = 128, .keys = keys, .values =
//   values,
//                          .table = table, .table_heads = 1, .table_stride = 2048, .lengths = lengths};
//   cuda::DecodeArguments arguments{.queries = q, .out = out, .lse = lse, .cache = cache};
//   std::size_t bytes = cuda::workspace_bytes(arguments);
//   cuda::decode(arguments, {.data = scratch, .bytes = bytes, .stream = stream});
//
// Split-KV attention (flash-decoding): the pages of all sequences and KV heads form one line that the thread blocks
// share evenly; the query heads of a KV head share one pass over it; partial results merge by log-sum-exp in a fixed
// order, so equal inputs give bit-identical results on one GPU. Lengths and tables are read on the device and nothing
// waits for it: a captured call can be replayed while they change. Query head h reads KV head h / (query_heads /
// kv_heads).
//
// Page selection is Quest's (arXiv 2406.10774, section 3.3): a page's score is an upper bound of q.k, the sum over
// channels of max(q_c min_c, q_c max_c); for the heads of a group the largest counts. Ties go to the lower page.
//
// All arguments are checked before any launch: Error(invalid_argument) for shapes, strides, types, alignment or
// pointers that are not on the device, Error(unsupported) without a GPU of compute capability 8.0 or later. What lies
// in device memory is the caller's word: lengths at most 64 * table_stride, table entries inside the pools.
//
// Cost: reads every selected page once. Scratch: about 8 * head_dim floats per thread block and per (sequence, KV
// head).
#pragma once

#include "tessera/attention/cuda.h"

namespace tessera::attention::cuda {

constexpr int kPageRows = 64;

// Layouts: see page_bytes() and src/attention/cuda/decode_format.h.
enum class PageFormat : uint8_t { bf16, fp8, int8, int4 };

struct PageBytes {
  int64_t key = 0;     // 64 rows of codes; then, but for bf16, f16 scales and (int8, int4) zeros per channel
  int64_t value = 0;   // 64 rows of codes; then scales and zeros per row
  int64_t bounds = 0;  // bf16 minimum[head_dim], then maximum[head_dim], of the page's keys
};

constexpr PageBytes page_bytes(PageFormat format, int head_dim) {
  const int64_t bits = format == PageFormat::bf16 ? 16 : format == PageFormat::int4 ? 4 : 8;
  const int64_t parameters = format == PageFormat::bf16 ? 0 : format == PageFormat::fp8 ? 2 : 4;
  const int64_t codes = kPageRows * bits * head_dim / 8;
  return {codes + parameters * head_dim, codes + parameters * kPageRows, int64_t{4} * head_dim};
}

// Pools are arrays of pages in device memory, aligned to 16 bytes. With one table per KV head (table_heads == kv_heads)
// an entry names one page. With one table per sequence (table_heads == 1) entry p names pages [p * kv_heads, (p + 1) *
// kv_heads) of each pool, one per KV head. Row r of a sequence lies in row r % 64 of its page r / 64.
struct PagedCache {
  PageFormat format = PageFormat::bf16;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;  // 64, 96, 128 or 256
  void* keys = nullptr;
  void* values = nullptr;
  void* bounds = nullptr;            // page selection only
  const int32_t* table = nullptr;    // [sequences, table_heads, table_stride]
  const int32_t* lengths = nullptr;  // [sequences] rows, 0 allowed
  int32_t table_heads = 1;
  int32_t table_stride = 0;  // pages per sequence that the table has room for
};

struct PageSelection {
  int32_t pages = 0;        // attended per sequence and KV head, forced ones included; 0: all
  int32_t first_pages = 1;  // forced (sinks)
  int32_t last_pages = 2;   // forced (window, the page being filled)
};

struct DecodeArguments {
  DeviceView queries;  // [sequences, query_heads, head_dim] bf16, rotated
  DeviceView out;      // same shape, bf16 or f32; zeros for an empty sequence
  DeviceView lse;      // [sequences, query_heads] f32, natural logarithm; -infinity for an empty sequence
  PagedCache cache;
  PageSelection selection;
  float scale = 0;              // of the scores; 0 means 1 / sqrt(head_dim)
  int32_t* selected = nullptr;  // optional, [sequences, kv_heads, selection.pages]: the pages attended, ascending
};

std::size_t workspace_bytes(const DecodeArguments& arguments);
void decode(const DecodeArguments& arguments, const Launch& launch);

// Fills pages from rows: codes, scales, zeros and, when cache.bounds is set, bounds. Pages [first_page, ceil(length /
// 64)) of every sequence are written; first_pages may be null (all pages). Also the way to append: keep the last page's
// rows in bf16 and write that page again after each step. Rows beyond a length are not read.
struct PageWrite {
  DeviceView keys;  // [sequences, rows, kv_heads, head_dim] bf16; row 0 is row 0 of the first page written
  DeviceView values;
  PagedCache cache;
  const int32_t* first_page = nullptr;  // [sequences] on the device
};

void write_pages(const PageWrite& write, void* stream);

// Checks without a device.
void check(const DecodeArguments& arguments);
void check(const PageWrite& write);

}  // namespace tessera::attention::cuda
