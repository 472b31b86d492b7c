/* C interface of CUDA decode; the same contracts as tessera/attention/cuda_decode.h, the same errors as cuda_c.h.
 *
 *   if (tessera_cuda_decode(&decode, &launch) != 0) puts(tessera_cuda_decode_last_error()); */
#pragma once

#include "tessera/attention/cuda_c.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  TESSERA_CUDA_PAGES_BF16 = 0,
  TESSERA_CUDA_PAGES_FP8 = 1,
  TESSERA_CUDA_PAGES_INT8 = 2,
  TESSERA_CUDA_PAGES_INT4 = 3
};

typedef struct {
  void* keys;
  void* values;
  void* bounds;           /* may be null without a selection */
  const int32_t* table;   /* [sequences, table_heads, table_stride] */
  const int32_t* lengths; /* [sequences] */
  int32_t format;         /* TESSERA_CUDA_PAGES_BF16, ... */
  int32_t kv_heads, head_dim, table_heads, table_stride;
} tessera_cuda_paged_cache;

typedef struct {
  tessera_cuda_view queries, out, lse;
  tessera_cuda_paged_cache cache;
  int32_t* selected;                               /* may be null */
  int32_t selected_pages, first_pages, last_pages; /* selected_pages 0: all */
  float scale;                                     /* 0: 1 / sqrt(head_dim) */
} tessera_cuda_decode_arguments;

typedef struct {
  tessera_cuda_view keys, values; /* [sequences, rows, kv_heads, head_dim] */
  tessera_cuda_paged_cache cache;
  const int32_t* first_page; /* may be null */
} tessera_cuda_page_write;

const char* tessera_cuda_decode_last_error(void);
int tessera_cuda_page_bytes(int32_t format, int32_t head_dim, int64_t* key, int64_t* value, int64_t* bounds);
int tessera_cuda_decode_workspace_bytes(const tessera_cuda_decode_arguments* decode, size_t* bytes);
int tessera_cuda_decode(const tessera_cuda_decode_arguments* decode, const tessera_cuda_launch* launch);
int tessera_cuda_write_pages(const tessera_cuda_page_write* write, void* stream);

#ifdef __cplusplus
}
#endif
