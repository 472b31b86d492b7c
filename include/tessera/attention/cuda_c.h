/* C interface of CUDA attention, for other languages. The same contracts as tessera/attention/cuda.h.
 *
 *   if (tessera_cuda_attend_dense(&attention, &launch) != 0) puts(tessera_cuda_last_error());
 *
 * Functions return 0, or 1 + the number of tessera::ErrorCode; the sentence of the calling thread's last error stays
 * readable until its next call. No function throws. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { TESSERA_CUDA_BF16 = 0, TESSERA_CUDA_F16 = 1, TESSERA_CUDA_F32 = 2 };
enum { TESSERA_CUDA_AUTOMATIC = 0, TESSERA_CUDA_WGMMA = 1, TESSERA_CUDA_MMA_SYNC = 2 };

typedef struct {
  void* data;
  int32_t type; /* TESSERA_CUDA_BF16, ... */
  int32_t rank;
  int64_t shape[4];
  int64_t strides[4]; /* elements */
  int32_t device;
} tessera_cuda_view;

typedef struct {
  int32_t query_begin, query_rows, key_begin, key_rows, first_position;
} tessera_cuda_sequence;

typedef struct {
  tessera_cuda_view queries, keys, values, out, lse;
  const tessera_cuda_sequence* sequences;
  int32_t sequence_count;
  float scale; /* 0: 1 / sqrt(head_dim) */
} tessera_cuda_attention;

typedef struct {
  const int32_t* tile_begin;
  const uint32_t* tiles;
  const int32_t* columns;
  const int32_t* column_count;
  const int32_t* column_cut;
  int64_t tile_capacity;
  int32_t key_tile, list_heads, query_tiles, column_stride, correction_levels;
  const uint32_t* overflow; /* may be null */
  const int32_t* bands;     /* null: tiles */
  const int32_t* band_cut;
  int32_t band_stride; /* 0: tiles */
} tessera_cuda_work_list;

typedef struct {
  void* data; /* device memory, aligned to 256 */
  size_t bytes;
  void* stream;   /* cudaStream_t */
  int32_t kernel; /* TESSERA_CUDA_AUTOMATIC, ... */
} tessera_cuda_launch;

enum {
  TESSERA_CUDA_DENSE = 0,
  TESSERA_CUDA_A_SHAPE = 1,
  TESSERA_CUDA_VERTICAL_SLASH = 2,
  TESSERA_CUDA_RECALL = 3,
  TESSERA_CUDA_TILES = 4,
  TESSERA_CUDA_BLOCK_MEAN = 5,
  TESSERA_CUDA_BLOCK_LSE = 6,
  TESSERA_CUDA_AUTO = 7
};

/* tessera/attention/cuda_select.h, SelectOptions; begin with tessera_cuda_default_options(). */
typedef struct {
  int32_t method; /* TESSERA_CUDA_DENSE, ... */
  int32_t vertical, slash, sinks, local, window, dense_rows, top_k, most_columns, crossover;
  float recall, share, threshold;
  int64_t most_entries;
  int32_t correction_levels;
  int32_t exact; /* 0 or 1 */
  int32_t bands; /* 0 or 1 */
} tessera_cuda_options;

/* Lists of a call, in its scratch memory; pointers are to the device, null where a method has none. */
typedef struct {
  int32_t dense; /* 1: no lists */
  tessera_cuda_work_list work;
  const uint32_t* overflow;
  const float* report;
  const float* column_mass;
  const float* diagonal_mass;
} tessera_cuda_selected;

const char* tessera_cuda_last_error(void);
int tessera_cuda_compute_capability(int32_t* capability);

/* work may be null: dense. */
int tessera_cuda_workspace_bytes(const tessera_cuda_attention* attention, const tessera_cuda_work_list* work,
                                 size_t* bytes);
int tessera_cuda_attend_dense(const tessera_cuda_attention* attention, const tessera_cuda_launch* launch);
int tessera_cuda_attend(const tessera_cuda_attention* attention, const tessera_cuda_work_list* work,
                        const tessera_cuda_launch* launch);

void tessera_cuda_default_options(tessera_cuda_options* options);
/* attend: 0 for the lists alone. */
int tessera_cuda_selection_bytes(const tessera_cuda_attention* attention, const tessera_cuda_options* options,
                                 int32_t attend, size_t* bytes);
/* `selected` may be null. */
int tessera_cuda_select(const tessera_cuda_attention* attention, const tessera_cuda_options* options,
                        const tessera_cuda_launch* launch, tessera_cuda_selected* selected);
int tessera_cuda_attend_selected(const tessera_cuda_attention* attention, const tessera_cuda_options* options,
                                 const tessera_cuda_launch* launch, tessera_cuda_selected* selected);

/* SelectOptions::crossover of this machine for a shape; waits for the device. type: TESSERA_CUDA_BF16 or _F16. */
int tessera_cuda_measure_crossover(int32_t query_heads, int32_t kv_heads, int32_t head_dim, int32_t type,
                                   int32_t* rows);

/* Waits for the launch's stream; an error when the lists of the last call with this scratch memory did not fit. */
int tessera_cuda_finish(const tessera_cuda_launch* launch);

#ifdef __cplusplus
}
#endif
