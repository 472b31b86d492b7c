// Functions for both sides carry TESSERA_HOST_DEVICE; the host compiler alone sees plain inline functions.
#pragma once

#ifdef __CUDACC__
#define TESSERA_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define TESSERA_HOST_DEVICE inline
#endif
