// The kernels of the pooled mean correction on the model of the GPU's instructions, against their definition in fp64.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "attention/cuda/correction.cuh"

namespace tessera::attention::cuda {
namespace {

uint16_t to_bits(float value) { return __bfloat16_as_ushort(__float2bfloat16(value)); }
float to_float(uint16_t bits) { return __bfloat162float(__ushort_as_bfloat16(bits)); }

struct Setup {
  int key_tile = 128;
  int levels = 1;
  int list_heads = 2;
  int columns = 0;
  double density = 0.3;
  std::vector<Sequence> sequences;
};

// Two query heads, one KV head.
template <int kHeadDim>
class Run {
 public:
  explicit Run(Setup setup) : setup_(std::move(setup)) {
    for (const Sequence& s : setup_.sequences) {
      query_rows_ = std::max<int64_t>(query_rows_, s.query_begin + s.query_rows);
      key_rows_ = std::max<int64_t>(key_rows_, s.key_begin + s.key_rows);
    }
    const auto fill = [&](std::vector<uint16_t>& bits, int64_t count) {
      for (int64_t i = 0; i < count; ++i) bits.push_back(to_bits(normal_(random_)));
    };
    fill(queries_, query_rows_ * 2 * kHeadDim);
    fill_in_runs(keys_);
    fill_in_runs(values_);
    fill(out_, query_rows_ * 2 * kHeadDim);
    for (int64_t i = 0; i < query_rows_ * 2; ++i) lse_.push_back(i % 7 == 3 ? -INFINITY : 4 + normal_(random_));
    out_before_ = out_;
    lse_before_ = lse_;
    make_problem();
    make_lists();
    lay_out(pooled_, problem_, setup_.key_tile);
    pooled_.levels = setup_.levels;
    const auto size = static_cast<size_t>(setup_.list_heads * pooled_.rows);
    means_keys_.assign(size * kHeadDim, 0xffff);
    means_values_.assign(size * kHeadDim, 0xffff);
    counts_.assign(size, -1);
    pooled_.column_count = column_count_.data();
    pooled_.keys = means_keys_.data();
    pooled_.values = means_values_.data();
    pooled_.counts = counts_.data();
  }

  void launch() {
    const auto pool = [&](unsigned heads, auto kernel) {
      for (blockIdx.y = 0; blockIdx.y < heads; ++blockIdx.y) {
        for (blockIdx.x = 0; blockIdx.x < static_cast<unsigned>(pooled_.rows); ++blockIdx.x) {
          for (threadIdx.x = 0; threadIdx.x < kHeadDim / 2; ++threadIdx.x) kernel(problem_, work_, pooled_);
        }
      }
    };
    pool(1, pool_tiles<__nv_bfloat16>);
    if (setup_.levels == 2) pool(static_cast<unsigned>(setup_.list_heads), pool_groups<__nv_bfloat16>);
    for (unsigned head = 0; head < 2; ++head) {
      for (unsigned tile = 0; tile < static_cast<unsigned>(problem_.query_tiles); ++tile) {
        blockIdx = {tile, head};
        run_block(kMmaThreads, [&] { attend_means<__nv_bfloat16, kHeadDim>(problem_, work_, pooled_); });
      }
    }
  }

  // Returns how many means were added in all.
  int expect_right() {
    int added = 0;
    for (int head = 0; head < 2; ++head) {
      for (int t = 0; t < problem_.query_tiles; ++t) {
        const QueryTile tile = query_tile(problem_, t);
        for (int r = 0; r < tile.rows; ++r) added += compare_row(head, t, tile, r);
      }
    }
    return added;
  }

 private:
  // Runs of 64 rows share a part, so that means of tiles differ from each other and from those of groups.
  void fill_in_runs(std::vector<uint16_t>& bits) {
    std::vector<float> shared(kHeadDim);
    for (int64_t row = 0; row < key_rows_; ++row) {
      for (size_t c = 0; c < kHeadDim; ++c) {
        if (row % 64 == 0) shared[c] = 1.5F * normal_(random_);
        bits.push_back(to_bits(shared[c] + normal_(random_)));
      }
    }
  }

  void make_problem() {
    problem_.queries = queries_.data();
    problem_.keys = keys_.data();
    problem_.values = values_.data();
    problem_.out = out_.data();
    problem_.lse = lse_.data();
    problem_.query_stride[0] = problem_.out_stride[0] = 2 * kHeadDim;
    problem_.query_stride[1] = problem_.out_stride[1] = kHeadDim;
    problem_.key_stride[0] = problem_.value_stride[0] = kHeadDim;
    problem_.key_stride[1] = problem_.value_stride[1] = kHeadDim;
    problem_.lse_stride = 2;
    problem_.query_heads = 2;
    problem_.kv_heads = 1;
    problem_.head_dim = kHeadDim;
    problem_.sequences = static_cast<int32_t>(setup_.sequences.size());
    problem_.scale = 1 / std::sqrt(static_cast<float>(kHeadDim));
    for (size_t s = 0; s < setup_.sequences.size(); ++s) {
      const Sequence& from = setup_.sequences[s];
      problem_.sequence[s] = {from.query_begin, from.query_rows,     from.key_begin,
                              from.key_rows,    from.first_position, problem_.query_tiles};
      problem_.query_tiles += (from.query_rows + kQueryTile - 1) / kQueryTile;
    }
  }

  void make_lists() {
    const int stride = (setup_.columns + 127) / 128 * 128;
    for (const Sequence& sequence : setup_.sequences) {
      for (int h = 0; h < setup_.list_heads; ++h) {
        std::vector<int32_t> rows(static_cast<size_t>(sequence.key_rows));
        for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
        std::shuffle(rows.begin(), rows.end(), random_);
        const int count = std::min(setup_.columns, sequence.key_rows);
        std::sort(rows.begin(), rows.begin() + count);
        // A whole tile of columns: its mean is of nothing.
        for (int i = 0; i < std::min(count, setup_.key_tile); ++i) rows[static_cast<size_t>(i)] = i;
        std::sort(rows.begin(), rows.begin() + count);
        rows.resize(static_cast<size_t>(count));
        rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
        column_count_.push_back(static_cast<int32_t>(rows.size()));
        rows.resize(static_cast<size_t>(stride), 1 << 30);
        columns_.insert(columns_.end(), rows.begin(), rows.end());
      }
    }
    tile_begin_.push_back(0);
    for (int list = 0; list < setup_.list_heads * problem_.query_tiles; ++list) {
      const QueryTile tile = query_tile(problem_, list % problem_.query_tiles);
      const int visible = visible_tiles(tile, problem_.sequence[tile.sequence].key_rows, setup_.key_tile);
      for (int k = 0; k < visible; ++k) {
        const bool masked = needs_mask(tile, problem_.sequence[tile.sequence].key_rows, setup_.key_tile, k);
        if (random_() % 1000 >= setup_.density * 1000) continue;
        tiles_.push_back(static_cast<uint32_t>(k) | (masked ? kMaskedTile : 0U));
      }
      tile_begin_.push_back(static_cast<int32_t>(tiles_.size()));
    }
    work_.tile_begin = tile_begin_.data();
    work_.tiles = tiles_.data();
    work_.tile_capacity = static_cast<int64_t>(tiles_.size());
    work_.column_cut = setup_.columns > 0 ? tile_begin_.data() : nullptr;  // only its presence matters
    work_.columns = columns_.data();
    work_.list_heads = setup_.list_heads;
    work_.column_stride = stride;
    work_.key_tile = setup_.key_tile;
  }

  int compare_row(int head, int t, const QueryTile& tile, int r) {
    const SequenceRange& range = problem_.sequence[tile.sequence];
    const int list_head = head / (2 / setup_.list_heads);
    const auto list = static_cast<size_t>(list_head * problem_.query_tiles + t);
    const int owner = tile.sequence * setup_.list_heads + list_head;
    const int32_t* columns = columns_.data() + owner * work_.column_stride;
    const auto row = static_cast<size_t>((tile.first_row + r) * 2 + head);
    double total = std::exp(double{lse_before_[row]});
    std::vector<double> out(kHeadDim);
    for (size_t d = 0; d < kHeadDim; ++d) out[d] = total * to_float(out_before_[row * kHeadDim + d]);
    const auto listed = [&](int key) {
      return std::any_of(tiles_.begin() + tile_begin_[list], tiles_.begin() + tile_begin_[list + 1],
                         [&](uint32_t entry) { return (entry & kTileIndex) == static_cast<uint32_t>(key); });
    };
    const int full = std::min(tile.position + 1, range.key_rows) / setup_.key_tile;
    int added = 0;
    std::vector<int> pooled;
    for (int key = 0; key < full; ++key) {
      const int first = key / 8 * 8;
      bool whole = setup_.levels == 2 && first + 16 <= full;
      for (int k = first; k < first + 8 && whole; ++k) whole = !listed(k);
      if (listed(key)) continue;
      for (int i = key * setup_.key_tile; i < (key + 1) * setup_.key_tile; ++i) {
        if (setup_.columns == 0 ||
            !std::binary_search(columns, columns + column_count_[static_cast<size_t>(owner)], i)) {
          pooled.push_back(i);
        }
      }
      if (whole && key != first + 7) continue;
      if (pooled.empty()) continue;
      ++added;
      std::vector<double> mean_key(kHeadDim);
      std::vector<double> mean_value(kHeadDim);
      for (const int i : pooled) {
        for (size_t d = 0; d < kHeadDim; ++d) {
          const auto at = static_cast<size_t>(range.key_begin + i) * kHeadDim + d;
          mean_key[d] += to_float(keys_[at]) / static_cast<double>(pooled.size());
          mean_value[d] += to_float(values_[at]) / static_cast<double>(pooled.size());
        }
      }
      for (std::vector<double>* mean : {&mean_key, &mean_value}) {  // means are kept in the element type
        for (double& x : *mean) x = to_float(to_bits(static_cast<float>(x)));
      }
      double score = 0;
      for (size_t d = 0; d < kHeadDim; ++d) score += to_float(queries_[row * kHeadDim + d]) * mean_key[d];
      const double weight = static_cast<double>(pooled.size()) * std::exp(score * problem_.scale);
      total += weight;
      for (size_t d = 0; d < kHeadDim; ++d) out[d] += weight * mean_value[d];
      pooled.clear();
    }
    if (added == 0) {
      EXPECT_EQ(lse_[row], lse_before_[row]);
      EXPECT_TRUE(std::equal(&out_[row * kHeadDim], &out_[row * kHeadDim] + kHeadDim, &out_before_[row * kHeadDim]));
      return 0;
    }
    EXPECT_NEAR(lse_[row], std::log(total), 2e-3) << "head " << head << " row " << tile.first_row + r;
    for (size_t d = 0; d < kHeadDim; ++d) {
      EXPECT_NEAR(to_float(out_[row * kHeadDim + d]), out[d] / total, 0.012 + 0.006 * std::abs(out[d] / total));
    }
    return added;
  }

  Setup setup_;
  Problem problem_ = {};
  ListWork work_ = {};
  Pooled pooled_;
  int64_t query_rows_ = 0, key_rows_ = 0;
  std::mt19937 random_{5};
  std::normal_distribution<float> normal_;
  std::vector<uint16_t> queries_, keys_, values_, out_, out_before_, means_keys_, means_values_;
  std::vector<float> lse_, lse_before_;
  std::vector<int32_t> tile_begin_, columns_, column_count_, counts_;
  std::vector<uint32_t> tiles_;
};

template <int kHeadDim>
void run(const Setup& setup, int least_means) {
  Run<kHeadDim> run(setup);
  run.launch();
  EXPECT_GE(run.expect_right(), least_means);
}

TEST(CorrectionEmulation, OneLevelSeveralSequencesWithOffsets) {
  run<64>({.sequences = {{0, 150, 0, 700, 550}, {150, 0, 700, 5, 0}, {150, 70, 705, 300, 230}}}, 500);
}

TEST(CorrectionEmulation, ColumnsAreNotPooled) {
  run<64>({.columns = 200, .density = 0.2, .sequences = {{0, 130, 0, 900, 770}}}, 500);
  run<128>({.key_tile = 64, .list_heads = 1, .columns = 90, .density = 0.2, .sequences = {{0, 40, 0, 500, 460}}}, 100);
}

// More tiles than a pass of the threads takes, more means than a group of keys.
TEST(CorrectionEmulation, TwoLevelsOverManyTiles) {
  run<64>({.key_tile = 64, .levels = 2, .density = 0.06, .sequences = {{0, 20, 0, 64 * 300, 64 * 300 - 20}}}, 500);
}

TEST(CorrectionEmulation, NothingIsTouchedWhereNothingIsLeftOut) {
  run<64>({.density = 1, .sequences = {{0, 200, 0, 600, 400}}}, 0);
  run<64>({.density = 0, .sequences = {{0, 100, 0, 100, 0}}}, 0);
}

}  // namespace
}  // namespace tessera::attention::cuda
