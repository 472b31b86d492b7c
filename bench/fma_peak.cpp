#include "fma_peak.h"

#include <algorithm>
#include <chrono>
#include <ctime>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "fma_peak.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::bench::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Twelve independent chains: enough to hide four cycles of latency at two multiply-adds a cycle, few enough for sixteen
// registers.
// Returns a value that depends on every operation, so that none can be left out; reports the operations executed and
// the instruction set they ran on.
float burn(int64_t iterations, float factor, float term, double* flops, int64_t* target) {
  const hn::ScalableTag<float> d;
  const auto m = hn::Set(d, factor);
  const auto t = hn::Set(d, term);
  auto a0 = hn::Iota(d, 0.0F), a1 = hn::Iota(d, 1.0F), a2 = hn::Iota(d, 2.0F), a3 = hn::Iota(d, 3.0F);
  auto a4 = hn::Iota(d, 4.0F), a5 = hn::Iota(d, 5.0F), a6 = hn::Iota(d, 6.0F), a7 = hn::Iota(d, 7.0F);
  auto a8 = hn::Iota(d, 8.0F), a9 = hn::Iota(d, 9.0F), a10 = hn::Iota(d, 10.0F), a11 = hn::Iota(d, 11.0F);
  for (int64_t i = 0; i < iterations; ++i) {
    a0 = hn::MulAdd(a0, m, t);
    a1 = hn::MulAdd(a1, m, t);
    a2 = hn::MulAdd(a2, m, t);
    a3 = hn::MulAdd(a3, m, t);
    a4 = hn::MulAdd(a4, m, t);
    a5 = hn::MulAdd(a5, m, t);
    a6 = hn::MulAdd(a6, m, t);
    a7 = hn::MulAdd(a7, m, t);
    a8 = hn::MulAdd(a8, m, t);
    a9 = hn::MulAdd(a9, m, t);
    a10 = hn::MulAdd(a10, m, t);
    a11 = hn::MulAdd(a11, m, t);
  }
  const auto low = hn::Add(hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)), hn::Add(a4, a5));
  const auto high = hn::Add(hn::Add(hn::Add(a6, a7), hn::Add(a8, a9)), hn::Add(a10, a11));
  *flops = static_cast<double>(iterations) * 12 * 2 * static_cast<double>(hn::Lanes(d));
  *target = HWY_TARGET;
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(low, high)));
}

}  // namespace tessera::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera::bench {
namespace {

HWY_EXPORT(burn);

constexpr int64_t kIterations = 4'000'000;  // about 8 ms at 3 GHz

thread_local volatile float sink = 0;

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Contracting (|factor| < 1), so that the values stay finite and normal however long the loop runs.
double run_burn(int64_t* target) {
  double flops = 0;
  sink = sink + HWY_DYNAMIC_DISPATCH(burn)(kIterations, 0.999F, 0.5F, &flops, target);
  return flops;
}

}  // namespace

double thread_cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

FmaPeak measure_fma_peak(ThreadPool& pool, int repeats) {
  FmaPeak peak;
  peak.threads = pool.threads();
  peak.repeats = repeats;
  int64_t target = 0;
  run_burn(&target);
  peak.target = hwy::TargetName(target);
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const double cpu = thread_cpu_seconds();
    const double flops = run_burn(&target);
    peak.one_thread = std::max(peak.one_thread, 1e-9 * flops / (thread_cpu_seconds() - cpu));

    const double wall = wall_seconds();
    pool.parallel_for(0, peak.threads, 1, [](int64_t, int64_t, int) {
      int64_t ignored = 0;
      run_burn(&ignored);
    });
    peak.all_threads = std::max(peak.all_threads, 1e-9 * flops * peak.threads / (wall_seconds() - wall));
  }
  return peak;
}

}  // namespace tessera::bench
#endif  // HWY_ONCE
