#include "tessera/attention/attention.h"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include "attention/reference.h"
#include "attention_fixture.h"

namespace tessera::attention {
namespace {

// f32 rounding of sums over a few hundred keys; the oracle reads the same decoded tiles, so formats do not matter.
constexpr double kBound = 2e-5;

// A random work list: some tiles, some columns, some heads dense.
WorkList random_work(const AttentionInput& input, uint64_t seed) {
  Random random(seed);
  WorkList work;
  work.query_rows = input.queries.shape()[0];
  work.first_position = input.first_position;
  work.heads.resize(static_cast<size_t>(input.queries.shape()[1]));
  for (const HeadKeys& head : input.heads) work.key_rows = std::max(work.key_rows, head.rows);
  const size_t group = work.heads.size() / input.heads.size();
  for (size_t h = 0; h < work.heads.size(); ++h) {
    HeadWork& head = work.heads[h];
    const int64_t rows = input.heads[h / group].rows;
    head.dense = random.below(5) == 0;
    if (head.dense) continue;
    const double tile_share = random.uniform();
    const double column_share = random.uniform() * random.uniform();
    head.tile_begin.push_back(0);
    for (int64_t column = 0; column < rows; ++column) {
      if (random.uniform() < column_share) head.columns.push_back(static_cast<int32_t>(column));
    }
    int32_t end = 0;
    for (int64_t t = 0; t < work.query_tiles(); ++t) {
      for (int64_t tile = 0; tile * kTileRows < rows; ++tile) {
        if (random.uniform() < tile_share) head.tiles.push_back(static_cast<int32_t>(tile));
      }
      head.tile_begin.push_back(static_cast<int64_t>(head.tiles.size()));
      end += static_cast<int32_t>(random.below(static_cast<int64_t>(head.columns.size()) - end + 1));
      if (!head.columns.empty()) head.column_end.push_back(end);
    }
  }
  check(work);
  return work;
}

TEST(DenseAttention, MatchesOracleOverShapes) {
  for (const int64_t head_dim : {32, 64, 96, 128, 224, 256}) {
    for (const int64_t query_rows : {1, 2, 7, 63, 64, 65, 130}) {
      for (const auto& [query_heads, kv_heads] : {std::pair{1, 1}, {4, 2}, {4, 1}, {8, 1}}) {
        const TestCache cache({query_rows, query_heads, kv_heads, head_dim, query_rows + 70});
        SCOPED_TRACE(testing::Message() << head_dim << " " << query_rows << " " << query_heads << "/" << kv_heads);
        expect_near(attend_dense(cache.input()), attend_reference(cache.input(), everything), kBound);
      }
    }
  }
}

TEST(DenseAttention, MatchesOracleOverFormatsOffsetsAndGaps) {
  for (const TileFormat format :
       {TileFormat::f32, TileFormat::bf16, TileFormat::f16, TileFormat::kivi4, TileFormat::kivi2}) {
    for (const int64_t query_rows : {1, 3, 20, 100}) {
      for (const int64_t before : {0, 1, 64, 200}) {
        TestCache cache({query_rows, 4, 2, 64, query_rows + before, format, 7});
        SCOPED_TRACE(testing::Message() << to_string(format) << " " << query_rows << " " << before);
        expect_near(attend_dense(cache.input()), attend_reference(cache.input(), everything), kBound);
        cache.add_gaps();
        expect_near(attend_dense(cache.input()), attend_reference(cache.input(), everything), kBound);
      }
    }
  }
}

TEST(DenseAttention, SplitsLongCachesWithoutChange) {
  for (const int64_t query_rows : {1, 5, 70}) {
    const TestCache cache({query_rows, 2, 1, 32, 5000});
    expect_near(attend_dense(cache.input()), attend_reference(cache.input(), everything), kBound);
  }
}

TEST(DenseAttention, RowsThatSeeNothingAreEmpty) {
  TestCache cache({70, 2, 1, 32, 70});
  cache.first_position = 0;
  cache.positions.resize(70);
  for (int i = 0; i < 70; ++i) cache.positions[static_cast<size_t>(i)] = i + 66;  // rows 0..65 see nothing
  cache.heads[0].positions = cache.positions;
  const AttentionPartial found = attend_dense(cache.input());
  expect_near(found, attend_reference(cache.input(), everything), kBound);
  for (int64_t row = 0; row < 66; ++row) {
    EXPECT_EQ(found.lse.data<float>()[row * 2], -std::numeric_limits<float>::infinity());
    EXPECT_EQ(found.out.data<float>()[row * 64 + 5], 0);
  }
  EXPECT_TRUE(std::isfinite(found.lse.data<float>()[66 * 2]));
}

TEST(DenseAttention, HandlesLargeScoresAndAnyScale) {
  TestCache cache({70, 1, 1, 32, 200});
  for (int64_t i = 0; i < cache.queries.elements(); ++i) cache.queries.data<float>()[i] *= 40;
  AttentionInput input = cache.input();
  for (const float scale : {0.0F, 0.01F, 3.0F}) {
    input.scale = scale;
    const AttentionPartial expected = attend_reference(input, everything);
    const AttentionPartial found = attend_dense(input);
    // Scores reach thousands, so one f32 rounding of a score is worth up to 1e-3 in a weight.
    EXPECT_LE(largest_difference(found.out, expected.out), 5e-3);
    EXPECT_LE(largest_difference(found.lse, expected.lse), 5e-3);
  }
}

TEST(DenseAttention, EmptyInputs) {
  const TestCache no_queries({0, 2, 1, 32, 64});
  EXPECT_EQ(attend_dense(no_queries.input()).out.elements(), 0);
  HeadKeys empty;
  const TestCache cache({3, 1, 1, 32, 10});
  AttentionInput input = cache.input();
  input.heads = std::span(&empty, 1);
  expect_identical(attend_dense(input), empty_partial(3, 1, 32));
}

TEST(DenseAttention, RejectsShapesThatDoNotFit) {
  const TestCache cache({3, 4, 2, 64, 10});
  AttentionInput input = cache.input();
  input.queries = Tensor::zeros(DType::f32, {3, 5, 64});
  EXPECT_THROW(attend_dense(input), Error);
  input.queries = Tensor::zeros(DType::f32, {3, 4, 40});
  EXPECT_THROW(attend_dense(input), Error);
  input.queries = Tensor::zeros(DType::f32, {12, 64});
  EXPECT_THROW(attend_dense(input), Error);
  input = cache.input();
  input.scale = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(attend_dense(input), Error);
  input = cache.input();
  HeadKeys lying = cache.heads[0];
  lying.rows = 65;
  const HeadKeys heads[] = {lying, lying};
  input.heads = heads;
  EXPECT_THROW(attend_dense(input), Error);
}

TEST(SparseAttention, MatchesOracleOnRandomWorkLists) {
  uint64_t seed = 0;
  for (const TileFormat format :
       {TileFormat::f32, TileFormat::bf16, TileFormat::f16, TileFormat::kivi4, TileFormat::kivi2}) {
    for (const int64_t query_rows : {1, 8, 9, 64, 150}) {
      for (const int64_t before : {0, 33, 300}) {
        for (const bool gaps : {false, true}) {
          TestCache cache({query_rows, 4, 2, 64, query_rows + before, format, ++seed});
          if (gaps) cache.add_gaps();
          SCOPED_TRACE(testing::Message() << to_string(format) << " " << query_rows << " " << before << " " << gaps);
          const WorkList work = random_work(cache.input(), seed);
          expect_near(attend(cache.input(), work), attend_reference(cache.input(), pairs_of(work)), kBound);
        }
      }
    }
  }
}

// Enough query tiles that neighbours are computed together; the last unit is shorter than the others.
TEST(SparseAttention, MatchesOracleOnManyQueryTiles) {
  struct Shape {
    int64_t head_dim;
    TileFormat format;
    bool gaps;
  };
  uint64_t seed = 0;
  for (const Shape& shape : {Shape{32, TileFormat::f32, true}, Shape{32, TileFormat::kivi4, false},
                             Shape{32, TileFormat::bf16, true}, Shape{160, TileFormat::f32, false}}) {
    TestCache cache({530, 16, 2, shape.head_dim, 563, shape.format, ++seed});
    if (shape.gaps) cache.add_gaps();
    SCOPED_TRACE(testing::Message() << shape.head_dim << " " << to_string(shape.format));
    const WorkList work = random_work(cache.input(), seed);
    expect_near(attend(cache.input(), work), attend_reference(cache.input(), pairs_of(work)), kBound);
  }
}

TEST(SparseAttention, DenseWorkEqualsDense) {
  const TestCache cache({200, 4, 2, 32, 300});
  WorkList work;
  work.query_rows = 200;
  work.key_rows = 300;
  work.first_position = 100;
  work.heads.resize(4);
  for (HeadWork& head : work.heads) head.dense = true;
  expect_near(attend(cache.input(), work), attend_dense(cache.input()), 1e-5);
}

TEST(SparseAttention, EmptyListsGiveEmptyPartials) {
  const TestCache cache({70, 1, 1, 32, 70});
  WorkList work;
  work.query_rows = 70;
  work.key_rows = 70;
  work.heads.resize(1);
  work.heads[0].tile_begin = {0, 0, 0};
  expect_identical(attend(cache.input(), work), empty_partial(70, 1, 32));
}

TEST(SparseAttention, RejectsForeignWorkLists) {
  const TestCache cache({70, 1, 1, 32, 70});
  WorkList work;
  work.query_rows = 70;
  work.key_rows = 70;
  EXPECT_THROW(attend(cache.input(), work), Error);  // no heads
  work.heads.resize(1);
  EXPECT_THROW(attend(cache.input(), work), Error);  // no tile_begin
  work.heads[0].tile_begin = {0, 1, 1};
  work.heads[0].tiles = {2};
  EXPECT_THROW(attend(cache.input(), work), Error);  // tile beyond the cache
  work.heads[0].tiles = {1};
  EXPECT_NO_THROW(attend(cache.input(), work));
  work.heads[0].columns = {70};
  work.heads[0].column_end = {0, 1};
  EXPECT_THROW(attend(cache.input(), work), Error);  // column beyond the cache
}

TEST(Attention, IsBitIdenticalForAnyThreadCount) {
  ThreadPool one(1);
  for (const int64_t query_rows : {1, 30, 333}) {
    const TestCache cache({query_rows, 4, 2, 64, query_rows + 2500});
    const WorkList work = random_work(cache.input(), 3);
    const AttentionPartial dense = attend_dense(cache.input(), {.pool = &one});
    const AttentionPartial sparse = attend(cache.input(), work, {.pool = &one});
    for (const int threads : {2, 3, 5}) {
      ThreadPool pool(threads);
      expect_identical(attend_dense(cache.input(), {.pool = &pool}), dense);
      expect_identical(attend(cache.input(), work, {.pool = &pool}), sparse);
    }
  }
}

TEST(Attention, AgreesOnEveryTargetOfThisProcessor) {
  const TestCache cache({100, 4, 2, 96, 260, TileFormat::f16});
  const TestCache decode({1, 4, 1, 96, 260, TileFormat::bf16});
  const WorkList work = random_work(cache.input(), 3);
  const AttentionPartial dense = attend_reference(cache.input(), everything);
  const AttentionPartial sparse = attend_reference(cache.input(), pairs_of(work));
  const AttentionPartial one_row = attend_reference(decode.input(), everything);
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    expect_near(attend_dense(cache.input()), dense, kBound);
    expect_near(attend(cache.input(), work), sparse, kBound);
    expect_near(attend_dense(decode.input()), one_row, kBound);
  }
  hwy::SetSupportedTargetsForTest(0);
}

double root_mean_square_difference(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.elements(); ++i) {
    const double difference = static_cast<double>(a.data<float>()[i]) - b.data<float>()[i];
    sum += difference * difference;
  }
  return std::sqrt(sum / static_cast<double>(a.elements()));
}

// E06: against fp64 attention over the unrounded rows, the bf16 error of the sparse kernel is that of the dense one.
TEST(SparseAttention, RoundingErrorMatchesDense) {
  const CacheShape shape{200, 2, 1, 64, 400};
  CacheShape rounded_shape = shape;
  rounded_shape.format = TileFormat::bf16;
  const TestCache exact(shape);
  const TestCache rounded(rounded_shape);
  WorkList work;  // everything, half of it as tiles and half as columns
  work.query_rows = 200;
  work.key_rows = 400;
  work.first_position = 200;
  work.heads.resize(2);
  for (HeadWork& head : work.heads) {
    head.tile_begin.push_back(0);
    for (int64_t tile = 0; tile < work.query_tiles(); ++tile) {
      head.tiles.insert(head.tiles.end(), {1, 3, 4, 6});
      head.tile_begin.push_back(static_cast<int64_t>(head.tiles.size()));
      head.column_end.push_back(400);
    }
    for (int32_t column = 0; column < 400; ++column) head.columns.push_back(column);
  }
  const AttentionPartial expected = attend_reference(exact.input(), everything);
  const double dense = root_mean_square_difference(attend_dense(rounded.input()).out, expected.out);
  const double sparse = root_mean_square_difference(attend(rounded.input(), work).out, expected.out);
  EXPECT_GT(dense, 1e-4);  // bf16 does round
  EXPECT_LE(sparse, 1.5 * dense);
}

TEST(SkippedMass, IsExactOnKnownShares) {
  // All scores are zero, so every visible key has the same mass.
  TestCache cache({128, 2, 1, 32, 128});
  std::fill_n(cache.queries.data<float>(), cache.queries.elements(), 0.0F);
  WorkList work;
  work.query_rows = 128;
  work.key_rows = 128;
  work.heads.resize(2);
  work.heads[0].dense = true;
  work.heads[1].tile_begin = {0, 1, 2};
  work.heads[1].tiles = {0, 1};
  const AttentionPartial sparse = attend(cache.input(), work);
  // The last row sees 64 of 128 keys in head 1, all in head 0.
  EXPECT_NEAR(skipped_mass(cache.input(), sparse, 1), 0.25, 1e-6);
  EXPECT_NEAR(skipped_mass(cache.input(), attend_dense(cache.input())), 0, 1e-6);
  EXPECT_NEAR(skipped_mass(cache.input(), empty_partial(128, 2, 32)), 1, 1e-12);
  // Two samples: rows 63 (nothing skipped) and 127.
  EXPECT_NEAR(skipped_mass(cache.input(), sparse, 2), 0.125, 1e-6);
}

}  // namespace
}  // namespace tessera::attention
