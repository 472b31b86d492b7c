#include "tessera/base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

#include "tessera/base/error.h"

namespace tessera {
namespace {

TEST(ThreadPool, VisitsEveryIndexOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (const int64_t size : {0, 1, 7, 1000}) {
      for (const int64_t grain : {1, 3, 2000}) {
        std::vector<std::atomic<int>> visits(static_cast<size_t>(size));
        pool.parallel_for(0, size, grain, [&](int64_t begin, int64_t end, int worker) {
          ASSERT_LT(worker, threads);
          ASSERT_LE(end - begin, grain);
          for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
        });
        for (const auto& visit : visits) ASSERT_EQ(visit.load(), 1);
      }
    }
  }
}

TEST(ThreadPool, RethrowsAndStaysUsable) {
  ThreadPool pool(3);
  EXPECT_THROW(pool.parallel_for(0, 100, 1,
                                 [](int64_t begin, int64_t, int) {
                                   if (begin == 50) throw std::runtime_error("from the body");
                                 }),
               std::runtime_error);
  std::atomic<int64_t> sum{0};
  pool.parallel_for(0, 100, 7, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) sum += i;
  });
  EXPECT_EQ(sum.load(), 4950);
}

TEST(ThreadPool, NestedLoopsKeepTheirWorkersScratchApart) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> busy(4);
  pool.parallel_for(0, 64, 1, [&](int64_t, int64_t, int) {
    pool.parallel_for(0, 8, 1, [&](int64_t, int64_t, int worker) {
      ASSERT_EQ(busy[static_cast<size_t>(worker)]++, 0);
      --busy[static_cast<size_t>(worker)];
    });
  });
}

TEST(ThreadPool, ManySmallLoops) {
  ThreadPool pool(2);
  std::atomic<int64_t> count{0};
  for (int i = 0; i < 20000; ++i) {
    pool.parallel_for(0, 4, 1, [&](int64_t, int64_t, int) { ++count; });
  }
  EXPECT_EQ(count.load(), 80000);
}

TEST(ThreadPool, RejectsNoThreads) { EXPECT_THROW(ThreadPool(0), Error); }

}  // namespace
}  // namespace tessera
