// The device's choice of columns and bands, run on the host, against sums over every pair.
#include "attention/cuda/line_choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include "tessera/base/random.h"

namespace tessera::attention {
namespace {

constexpr int kRows = 64;
constexpr int kGroupRows = 4;

// Softmax weights of the probe rows of one head with heavy columns, diagonals and noise, and all that is summed of
// them.
struct Specimen {
  cuda::BandGeometry geometry;
  int groups = 0;
  std::vector<int> own;        // [rows]
  std::vector<float> weights;  // [rows][key_rows]
  std::vector<float> column_mass, column_gain, tile_mass;
  std::vector<int> own_tile;

  Specimen(int query_rows, int key_rows, float noise, uint64_t seed)
      : geometry{query_rows, key_rows, key_rows - query_rows} {
    Random random(seed);
    const int tiles = geometry.query_tiles();
    groups = std::min(tiles, 16);
    std::vector<float> columns(static_cast<size_t>(key_rows));
    std::vector<float> diagonals(static_cast<size_t>(key_rows));
    for (int i = 0; i < 9; ++i) columns[static_cast<size_t>(random.below(key_rows))] = 6;
    for (int i = 0; i < 3; ++i) diagonals[static_cast<size_t>(random.below(key_rows))] = 8;
    diagonals[0] = 7;
    for (int g = 0; g < groups; ++g) {
      const int tile = (g + 1) * tiles / groups - 1;
      own_tile.push_back(geometry.own_tile(tile));
      const int rows = std::min(128, query_rows - tile * 128);
      for (int i = 0; i < kGroupRows; ++i) {
        const int row = geometry.first_position + tile * 128 + (2 * i + 1) * rows / 8;
        own.push_back(row);
        std::vector<double> weight(static_cast<size_t>(key_rows));
        double sum = 0;
        for (int k = 0; k <= row; ++k) {
          const double score =
              columns[static_cast<size_t>(k)] + diagonals[static_cast<size_t>(row - k)] + noise * random.normal();
          sum += weight[static_cast<size_t>(k)] = std::exp(score);
        }
        for (const double w : weight) weights.push_back(static_cast<float>(w / sum));
      }
    }
    sum();
  }

  // Everything that the probe sums, from `weights`: even groups choose, odd ones judge.
  void sum() {
    const auto size = static_cast<size_t>(geometry.key_rows);
    column_mass.assign(size, 0);
    column_gain.assign(size, 0);
    std::vector<float> top(size);
    tile_mass.assign(static_cast<size_t>(16 * geometry.key_tiles()), 0);
    for (size_t r = 0; r < own.size(); ++r) {
      for (size_t k = 0; k < size; ++k) {
        const float w = weights[r * size + k];
        (r / kGroupRows % 2 == 1 ? column_mass : column_gain)[k] += w;
        if (r / kGroupRows % 2 == 0) top[k] = std::max(top[k], w);
        tile_mass[r / kGroupRows * static_cast<size_t>(geometry.key_tiles()) + k / 128] += w;
      }
    }
    for (size_t k = 0; k < size; ++k) column_gain[k] -= top[k];
  }
};

struct Chosen {
  std::vector<int32_t> columns;
  std::vector<int32_t> bands;
  float recall = 0;
  float cost = 0;
  bool operator==(const Chosen&) const = default;
};

struct Wish {
  cuda::ChoiceTarget target = cuda::ChoiceTarget::recall;
  float share = 0.95F;
  float most_tiles = 0.9F;
  bool dense_fits = true;
  int room = 256;
};

using Team = cuda::Block<cuda::kSearchThreads, 3>;

template <typename Blocks = cuda::SearchBlock>
Chosen choose(const Specimen& from, const Wish& wish, bool descending) {
  const auto tiles = static_cast<size_t>(from.geometry.key_tiles());
  std::vector<float> tile_rest(from.tile_mass.size());
  std::vector<float> band_mass(2 * tiles);
  std::vector<float> column_groups(static_cast<size_t>(wish.room) * 16);
  std::vector<uint32_t> bits((tiles + 31) / 32);
  std::vector<uint32_t> keys(from.column_mass.size());
  float report[2] = {};
  Chosen chosen;
  chosen.columns.resize(static_cast<size_t>(wish.room));
  int32_t count = -1;
  cuda::LineChoice choice{.column_mass = from.column_mass.data(),
                          .column_gain = from.column_gain.data(),
                          .column_key = keys.data(),
                          .tile_mass = from.tile_mass.data(),
                          .tile_rest = tile_rest.data(),
                          .band_mass = band_mass.data(),
                          .columns = chosen.columns.data(),
                          .column_count = &count,
                          .column_groups = column_groups.data(),
                          .band_bits = bits.data(),
                          .report = report,
                          .geometry = from.geometry,
                          .groups = from.groups,
                          .row_count = static_cast<int32_t>(from.own.size()),
                          .target = wish.target,
                          .share = wish.share,
                          .most_tiles = wish.most_tiles,
                          .dense_fits = wish.dense_fits,
                          .column_room = wish.room,
                          .forced_columns = 2};
  std::copy(from.own_tile.begin(), from.own_tile.end(), choice.own_tile);
  const auto parts = std::make_unique<std::array<cuda::ChoiceShared, Blocks::kBlocks>>();
  cuda::ChoiceShared& shared = parts->front();
  const Blocks block{.descending = descending};
  const auto size = static_cast<size_t>(from.geometry.key_rows);
  for (const bool again : {false, true}) {
    cuda::choose_columns(block, choice, again, shared);
    std::fill(column_groups.begin(), column_groups.end(), 0.0F);
    for (size_t c = 0; c < static_cast<size_t>(count); ++c) {
      for (size_t r = 0; r < from.own.size(); ++r) {
        column_groups[c * 16 + r / kGroupRows] += from.weights[r * size + static_cast<size_t>(chosen.columns[c])];
      }
    }
  }
  cuda::choose_bands(block, choice, shared);
  chosen.columns.resize(static_cast<size_t>(count));
  for (size_t e = 0; e < tiles; ++e) {
    if ((bits[e / 32] >> (e % 32) & 1U) != 0) chosen.bands.push_back(static_cast<int32_t>(e));
  }
  chosen.recall = report[0];
  chosen.cost = report[1];
  return chosen;
}

// Pair by pair, over the rows that judge.
struct Truth {
  double recall = 0;
  double cost = 0;
};
Truth measure(const Specimen& from, const Chosen& chosen) {
  const int key_rows = from.geometry.key_rows;
  Truth truth;
  double judges = 0;
  for (size_t r = 0; r < from.own.size(); ++r) {
    if (r / kGroupRows % 2 == 0) continue;
    ++judges;
    for (int k = 0; k <= from.own[r]; ++k) {
      const int band = from.own_tile[r / kGroupRows] - k / 128;
      const bool kept = std::binary_search(chosen.columns.begin(), chosen.columns.end(), k) ||
                        std::binary_search(chosen.bands.begin(), chosen.bands.end(), band);
      if (kept) truth.recall += from.weights[r * static_cast<size_t>(key_rows) + static_cast<size_t>(k)];
    }
  }
  truth.recall /= judges;
  double dense = 0;
  for (int t = 0; t < from.geometry.query_tiles(); ++t) {
    const int own = from.geometry.own_tile(t);
    dense += own + 1;
    for (const int band : chosen.bands) truth.cost += band <= own ? 1 : 0;
    for (const int column : chosen.columns) truth.cost += column / 128 <= own ? 1.0 / 128 : 0;
  }
  truth.cost /= dense;
  return truth;
}

TEST(LineChoice, GeometryCountsTiles) {
  for (const auto& [queries, keys] : std::vector<std::pair<int, int>>{{1, 1}, {130, 130}, {513, 2001}, {300, 1024}}) {
    const cuda::BandGeometry geometry{queries, keys, keys - queries};
    double dense = 0;
    for (int t = 0; t < geometry.query_tiles(); ++t) dense += geometry.own_tile(t) + 1;
    EXPECT_NEAR(geometry.dense_tiles(), dense, 0.5 * geometry.query_tiles());
    for (int j = 0; j < geometry.key_tiles(); ++j) {
      int expected = 0;
      for (int t = 0; t < geometry.query_tiles(); ++t) expected += geometry.own_tile(t) >= j ? 1 : 0;
      EXPECT_EQ(geometry.seen_by(j), expected) << queries << ' ' << keys << ' ' << j;
    }
  }
}

TEST(LineChoice, ReachesTheRecallItReports) {
  int sparse = 0;
  for (const auto& [queries, keys] : std::vector<std::pair<int, int>>{{4096, 4096}, {3001, 3001}, {2500, 5003}}) {
    for (const float noise : {0.1F, 1.0F}) {
      const Specimen specimen(queries, keys, noise, 17);
      for (const float recall : {0.5F, 0.8F}) {
        const Chosen chosen = choose(specimen, {.share = recall}, false);
        EXPECT_EQ(chosen, choose(specimen, {.share = recall}, true));
        EXPECT_EQ(chosen, choose<Team>(specimen, {.share = recall}, false));
        EXPECT_EQ(chosen, choose<Team>(specimen, {.share = recall}, true));
        EXPECT_TRUE(std::is_sorted(chosen.columns.begin(), chosen.columns.end()));
        const Truth truth = measure(specimen, chosen);
        EXPECT_GE(truth.recall, recall - 1e-4);
        if (chosen.cost >= 1) continue;
        ++sparse;
        EXPECT_NEAR(chosen.recall, truth.recall, 1e-3);
        EXPECT_NEAR(chosen.cost, truth.cost, 1e-3 + 0.01 * truth.cost);
        EXPECT_LE(chosen.cost, 0.9F);
        EXPECT_EQ(chosen.columns.at(1), 1) << "forced";
        EXPECT_EQ(chosen.bands.at(0), 0) << "forced";
      }
    }
  }
  EXPECT_GE(sparse, 6);
}

// A diagonal between the tiles' corners: every probe row likes a key of its own, none of which is a column.
TEST(LineChoice, DiagonalIsNoColumn) {
  Specimen specimen(4096, 4096, 0, 3);
  std::fill(specimen.weights.begin(), specimen.weights.end(), 0.0F);
  for (size_t r = 0; r < specimen.own.size(); ++r) {
    specimen.weights[r * 4096 + static_cast<size_t>(std::max(0, specimen.own[r] - 300))] = 1;
  }
  specimen.sum();
  const Chosen chosen = choose(specimen, {}, false);
  EXPECT_EQ(chosen.columns, (std::vector<int32_t>{0, 1}));
  EXPECT_TRUE(std::binary_search(chosen.bands.begin(), chosen.bands.end(), 2) ||
              std::binary_search(chosen.bands.begin(), chosen.bands.end(), 3));
  EXPECT_GE(measure(specimen, chosen).recall, 0.95);
}

// Columns that only the choosing rows like do not count, however much they like them.
TEST(LineChoice, JudgesAreNotFooled) {
  Specimen specimen(4096, 4096, 0, 3);
  std::fill(specimen.weights.begin(), specimen.weights.end(), 0.0F);
  for (size_t r = 0; r < specimen.own.size(); ++r) {
    const bool judges = r / kGroupRows % 2 == 1;
    specimen.weights[r * 4096 + static_cast<size_t>(judges ? specimen.own[r] : 10)] = 1;
  }
  specimen.sum();
  const Chosen chosen = choose(specimen, {}, false);
  EXPECT_GE(measure(specimen, chosen).recall, 0.95);
  EXPECT_TRUE(std::binary_search(chosen.bands.begin(), chosen.bands.end(), 0));
}

TEST(LineChoice, UniformMassBecomesDense) {
  Specimen specimen(4096, 4096, 0, 3);
  for (size_t r = 0; r < specimen.own.size(); ++r) {
    for (int k = 0; k <= specimen.own[r]; ++k) {
      specimen.weights[r * 4096 + static_cast<size_t>(k)] = 1.0F / static_cast<float>(specimen.own[r] + 1);
    }
  }
  specimen.sum();
  const Chosen chosen = choose(specimen, {}, false);
  EXPECT_EQ(chosen.columns.size(), 0U);
  EXPECT_EQ(chosen.bands.size(), 32U);
  EXPECT_EQ(chosen.cost, 1);
  // No room for dense: as much as fits.
  const Chosen cut = choose(specimen, {.most_tiles = 0.3F, .dense_fits = false}, false);
  EXPECT_EQ(cut, choose<Team>(specimen, {.most_tiles = 0.3F, .dense_fits = false}, false));
  EXPECT_LT(cut.cost, 0.36F);
  EXPECT_LT(cut.recall, 0.95F);
}

TEST(LineChoice, TilesAreSpentAndOrderedByWorth) {
  const Specimen specimen(4096, 4096, 0.3F, 5);
  double before = 0;
  for (const float share : {0.07F, 0.15F, 0.3F}) {
    const Wish wish{.target = cuda::ChoiceTarget::tiles, .share = share};
    const Chosen chosen = choose(specimen, wish, false);
    EXPECT_EQ(chosen, choose(specimen, wish, true));
    EXPECT_EQ(chosen, choose<Team>(specimen, wish, true));
    const Truth truth = measure(specimen, chosen);
    EXPECT_GE(truth.cost, share - 1e-3);
    EXPECT_LE(truth.cost, share + 33.0 / 528) << "at most one band more";
    EXPECT_GE(truth.recall, before);
    before = truth.recall;
  }
}

TEST(LineChoice, ColumnsNeverExceedTheirRoom) {
  const Specimen specimen(4096, 4096, 2.5F, 5);
  const Chosen wide = choose(specimen, {.share = 0.9F, .room = 2048}, false);
  const Chosen narrow = choose(specimen, {.share = 0.9F, .room = 4}, false);
  EXPECT_EQ(narrow, choose<Team>(specimen, {.share = 0.9F, .room = 4}, false));
  EXPECT_LE(narrow.columns.size(), 4U);
  EXPECT_GE(measure(specimen, wide).recall, 0.9 - 1e-4);
  EXPECT_GE(measure(specimen, narrow).recall, 0.9 - 1e-4);
}

}  // namespace
}  // namespace tessera::attention
