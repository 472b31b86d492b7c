#include <string>

#include "attention/cuda/c_boundary.h"
#include "tessera/attention/cuda_decode.h"
#include "tessera/attention/cuda_decode_c.h"

namespace tessera::attention::cuda {
namespace {

thread_local std::string last_decode_error;

template <typename Body>
int guarded(const Body& body) noexcept {
  return guarded_into(last_decode_error, body);
}

constexpr NamedCall kCall = {"CUDA decode"};

void require(const void* pointer, const char* name) { kCall.require(pointer, name); }
DeviceView to_decode_view(const tessera_cuda_view& from) { return kCall.view(from); }

PageFormat to_format(int32_t format) {
  if (format < TESSERA_CUDA_PAGES_BF16 || format > TESSERA_CUDA_PAGES_INT4) {
    throw Error(ErrorCode::invalid_argument,
                "CUDA decode: the page format must be 0 (bf16), 1 (fp8), 2 (int8) or 3 (int4), found " +
                    std::to_string(format));
  }
  return static_cast<PageFormat>(format);
}

PagedCache to_cache(const tessera_cuda_paged_cache& from) {
  return {.format = to_format(from.format),
          .kv_heads = from.kv_heads,
          .head_dim = from.head_dim,
          .keys = from.keys,
          .values = from.values,
          .bounds = from.bounds,
          .table = from.table,
          .lengths = from.lengths,
          .table_heads = from.table_heads,
          .table_stride = from.table_stride};
}

DecodeArguments to_decode(const tessera_cuda_decode_arguments* from) {
  require(from, "decode");
  return {.queries = to_decode_view(from->queries),
          .out = to_decode_view(from->out),
          .lse = to_decode_view(from->lse),
          .cache = to_cache(from->cache),
          .selection = {from->selected_pages, from->first_pages, from->last_pages},
          .scale = from->scale,
          .selected = from->selected};
}

}  // namespace
}  // namespace tessera::attention::cuda

using namespace tessera::attention::cuda;

extern "C" {

const char* tessera_cuda_decode_last_error(void) { return last_decode_error.c_str(); }

int tessera_cuda_page_bytes(int32_t format, int32_t head_dim, int64_t* key, int64_t* value, int64_t* bounds) {
  return guarded([&] {
    require(key, "key");
    require(value, "value");
    require(bounds, "bounds");
    const PageBytes bytes = page_bytes(to_format(format), head_dim);
    *key = bytes.key;
    *value = bytes.value;
    *bounds = bytes.bounds;
  });
}

int tessera_cuda_decode_workspace_bytes(const tessera_cuda_decode_arguments* arguments, size_t* bytes) {
  return guarded([&] {
    require(bytes, "bytes");
    *bytes = workspace_bytes(to_decode(arguments));
  });
}

int tessera_cuda_decode(const tessera_cuda_decode_arguments* arguments, const tessera_cuda_launch* launch) {
  return guarded([&] {
    require(launch, "launch");
    decode(to_decode(arguments), {launch->data, launch->bytes, launch->stream});
  });
}

int tessera_cuda_write_pages(const tessera_cuda_page_write* from, void* stream) {
  return guarded([&] {
    require(from, "write");
    write_pages({.keys = to_decode_view(from->keys),
                 .values = to_decode_view(from->values),
                 .cache = to_cache(from->cache),
                 .first_page = from->first_page},
                stream);
  });
}

}  // extern "C"
