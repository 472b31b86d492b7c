// The fastest rate at which this machine can multiply and add f32 values that never leave the vector registers: the
// denominator of every "percent of peak" that the benchmarks print.
//
//   FmaPeak peak = measure_fma_peak(ThreadPool::shared());
//   fmt::print("{:.0f} % of peak\n", 100 * gflops / peak.one_thread);
#pragma once

#include <string>

#include "tessera/base/thread_pool.h"

namespace tessera::bench {

struct FmaPeak {
  double one_thread = 0;   // GFLOP/s of one core per second of its CPU time, the best of `repeats`
  double all_threads = 0;  // GFLOP/s of the whole pool per second of wall time, the best of `repeats`
  int threads = 1;         // of the pool
  int repeats = 0;
  std::string target;  // the instruction set, for example "AVX2"
};

// One multiply-add of one lane counts as two floating-point operations. Takes about `repeats` times 20 ms.
FmaPeak measure_fma_peak(ThreadPool& pool, int repeats = 15);

// CPU seconds of the calling thread; unlike wall time it does not count the time that other programs took.
double thread_cpu_seconds();

}  // namespace tessera::bench
