// Functions for both sides carry TESSERA_HOST_DEVICE; the host compiler alone sees plain inline functions.
#pragma once

#ifdef __CUDACC__
#define TESSERA_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define TESSERA_HOST_DEVICE inline
#endif

// Loops: unrolled; eight at a time, for loads that wait for each other otherwise; rolled, because code that streams
// once costs fetches.
#ifdef __CUDACC__
#define TESSERA_UNROLL _Pragma("unroll")
#define TESSERA_BATCHED _Pragma("unroll 8")
#define TESSERA_ROLLED _Pragma("unroll 1")
#else
#define TESSERA_UNROLL
#define TESSERA_BATCHED
#define TESSERA_ROLLED
#endif
