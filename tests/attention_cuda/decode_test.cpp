// The decode kernels' bodies on the host against fp64: page formats, packed groups, splits.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <vector>

#include "decode_host.h"

namespace tessera::attention::cuda {
namespace {

using decode_host::Host;
using decode_host::Shape;

template <typename Pages, int kDim>
void expect_close(const Shape& shape) {
  Host<Pages, kDim> host(shape);
  host.run();
  const auto [out, lse] = host.errors();
  EXPECT_LT(out, Pages::kScaled ? 1e-3 : 4e-3) << kDim << " channels, format " << static_cast<int>(Pages::kFormat);
  EXPECT_LT(lse, 1e-3) << kDim << " channels, format " << static_cast<int>(Pages::kFormat);
}

template <typename Pages>
void expect_close_for_all_head_dims(const Shape& shape) {
  expect_close<Pages, 64>(shape);
  expect_close<Pages, 96>(shape);
  expect_close<Pages, 128>(shape);
  expect_close<Pages, 256>(shape);
}

TEST(Decode, EveryFormatAndHeadDimEqualsFp64OverTheStoredCodes) {
  for (const bool spread : {false, true}) {
    const Shape shape = {.lengths = {333}, .spread = spread};
    expect_close_for_all_head_dims<Bf16Pages>(shape);
    expect_close_for_all_head_dims<Fp8Pages>(shape);
    expect_close_for_all_head_dims<Int8Pages>(shape);
    expect_close_for_all_head_dims<Int4Pages>(shape);
  }
}

TEST(Decode, GroupsBatchesAndSplits) {
  for (const int32_t group : {1, 2, 3, 8, 12}) {
    for (const int32_t table_heads : {1, 2}) {
      expect_close<Bf16Pages, 64>({.sequences = 3,
                                   .query_heads = 2 * group,
                                   .kv_heads = 2,
                                   .lengths = {65, 0, 129},
                                   .table_heads = table_heads,
                                   .blocks = 5,
                                   .warps = 3});
    }
  }
  expect_close<Int8Pages, 64>({.lengths = {1}, .blocks = 7});
  expect_close<Int4Pages, 64>({.lengths = {64}, .blocks = 1, .warps = 1});
}

TEST(Decode, AnEmptySequenceGivesZerosAndMinusInfinity) {
  Host<Bf16Pages, 64> host({.sequences = 2, .lengths = {0, 70}});
  host.run();
  for (int i = 0; i < 4 * 64; ++i) EXPECT_EQ(host.out()[static_cast<std::size_t>(i)], 0);
  for (std::size_t h = 0; h < 4; ++h) EXPECT_EQ(host.lse()[h], -std::numeric_limits<float>::infinity());
}

TEST(Decode, SplitsChangeOnlyRounding) {
  Host<Bf16Pages, 64> whole({.lengths = {1000}, .blocks = 1, .warps = 1});
  Host<Bf16Pages, 64> split({.lengths = {1000}, .blocks = 13, .warps = 4});
  whole.run();
  split.run();
  for (std::size_t i = 0; i < whole.out().size(); ++i) EXPECT_NEAR(whole.out()[i], split.out()[i], 1e-3);
}

TEST(Decode, EveryUnitHasOneOwnerAndSlotsAreDistinct) {
  const std::vector<int32_t> lengths = {1, 0, 640, 64, 65};
  DecodeProblem problem = {};
  problem.lengths = lengths.data();
  problem.sequences = 5;
  problem.kv_heads = 3;
  problem.passes = 2;
  for (problem.blocks = 1; problem.blocks < 200; ++problem.blocks) {
    const Shares shares = shares_of(problem);
    ASSERT_EQ(total_units(problem), 14 * 6);
    ASSERT_EQ(shares.begin(shares.workers), 14 * 6);
    std::vector<int64_t> slots;
    for (int32_t worker = 0; worker < shares.workers; ++worker) {
      ASSERT_LT(shares.begin(worker), shares.begin(worker + 1));
      for (int32_t unit = shares.begin(worker); unit < shares.begin(worker + 1); ++unit) {
        ASSERT_EQ(shares.owner(unit), worker);
        const JobRange job = job_at(problem, unit);
        ASSERT_LE(job.begin, unit);
        ASSERT_LT(unit, job.end);
        const JobRange same = range_of_job(problem, job.job);
        ASSERT_EQ(same.begin, job.begin);
        ASSERT_EQ(same.end, job.end);
        if (unit == shares.begin(worker) || unit == job.begin) slots.push_back(slot_of(worker, job.job));
      }
    }
    ASSERT_EQ(std::adjacent_find(slots.begin(), slots.end(), std::greater_equal<>()), slots.end());
    ASSERT_LT(slots.back(), slot_count(problem.blocks, 30));
  }
}

TEST(Decode, JobsWithWorkersOfTheirOwnAreDividedAlone) {
  for (const int32_t length : {64, 300, 6400}) {
    DecodeProblem problem = {};
    problem.lengths = &length;
    problem.sequences = 1;
    problem.kv_heads = 3;
    problem.passes = 2;
    problem.blocks = 132;
    const int32_t pages = pages_of(problem, 0);
    for (problem.workers_per_job = 1; problem.workers_per_job <= 22; ++problem.workers_per_job) {
      const Shares shares = shares_of(problem);
      ASSERT_LE(shares.workers, problem.blocks);
      ASSERT_EQ(shares.begin(0), 0);
      ASSERT_EQ(shares.begin(shares.workers), pages * 6);
      for (int32_t worker = 0; worker < shares.workers; ++worker) {
        const int32_t end = shares.begin(worker + 1);
        ASSERT_LT(shares.begin(worker), end);
        ASSERT_EQ(shares.begin(worker) / pages, (end - 1) / pages);
        for (int32_t unit = shares.begin(worker); unit < end; ++unit) ASSERT_EQ(shares.owner(unit), worker);
      }
    }
  }
}

}  // namespace
}  // namespace tessera::attention::cuda
