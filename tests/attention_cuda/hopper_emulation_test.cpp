// The Hopper kernel's own source on a model of its instructions (emulation/), against fp64: the order of barriers and
// their parities, masks, columns, the online softmax, the register layouts and the stores. What the model cannot show:
// races within the asynchronous units, and speed.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "attention/cuda/hopper_kernel.cuh"

namespace tessera::attention::cuda {
namespace {

struct Lists {
  std::vector<int32_t> tile_begin = {0};
  std::vector<uint32_t> tiles;
  std::vector<int32_t> columns;  // [owners, stride]
  std::vector<int32_t> cuts;     // [lists]
  std::vector<uint32_t> keep;    // [lists, stride / 32]
  std::vector<int32_t> bands;    // [owners, band_stride]
  std::vector<int32_t> band_cuts;
  int32_t list_heads = 0, stride = 0, band_stride = 0;
  std::vector<WorkItem> items;
};

struct Setup {
  int query_heads = 1, kv_heads = 1;
  std::vector<Sequence> sequences;
  double density = 0.4;
  int columns = 0;
  int parts = 1;  // every list of more units than this is cut in so many
};

uint16_t to_bits(float value) { return __bfloat16_as_ushort(__float2bfloat16(value)); }
float to_float(uint16_t bits) { return __bfloat162float(__ushort_as_bfloat16(bits)); }

std::vector<uint16_t> random_bits(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> bits(static_cast<size_t>(count));
  for (uint16_t& x : bits) x = to_bits(normal(random));
  return bits;
}

CUtensorMap make_map(const uint16_t* data, int64_t rows, int64_t heads, int64_t head_dim, int box_rows) {
  EmulatedMap from{data, rows, heads, head_dim, heads * head_dim, head_dim, box_rows};
  CUtensorMap map = {};
  std::memcpy(&map, &from, sizeof(from));
  return map;
}

// Key tiles of kBandTile rows stand for bands.
template <int kHeadDim, int kKeyTile, bool kList>
class Run {
  static constexpr bool kBands = kKeyTile == kBandTile;

 public:
  explicit Run(Setup setup) : setup_(std::move(setup)) {
    for (const Sequence& s : setup_.sequences) {
      query_rows_ = std::max<int64_t>(query_rows_, s.query_begin + s.query_rows);
      key_rows_ = std::max<int64_t>(key_rows_, s.key_begin + s.key_rows);
    }
    queries_ = random_bits(query_rows_ * setup_.query_heads * kHeadDim, 1);
    keys_ = random_bits(key_rows_ * setup_.kv_heads * kHeadDim, 2);
    values_ = random_bits(key_rows_ * setup_.kv_heads * kHeadDim, 3);
    out_.assign(queries_.size(), 0xffff);
    lse_.assign(static_cast<size_t>(query_rows_ * setup_.query_heads), NAN);
    make_problem();
    if (kList) make_lists();
  }

  void launch() {
    HopperMaps maps = {};
    maps.queries = make_map(queries_.data(), query_rows_, setup_.query_heads, kHeadDim, kQueryTile);
    maps.keys = make_map(keys_.data(), key_rows_, setup_.kv_heads, kHeadDim, kKeyTile);
    maps.values = make_map(values_.data(), key_rows_, setup_.kv_heads, kHeadDim, kKeyTile);
    maps.unit_keys = make_map(keys_.data(), key_rows_, setup_.kv_heads, kHeadDim, unit_rows(kHeadDim, kKeyTile));
    maps.unit_values = make_map(values_.data(), key_rows_, setup_.kv_heads, kHeadDim, unit_rows(kHeadDim, kKeyTile));
    gather(maps);
    int32_t item_count = static_cast<int32_t>(lists_.items.size());
    int32_t slots = 0;
    for (const WorkItem& item : lists_.items) slots = std::max(slots, item.slot + 1);
    partial_out_.assign(static_cast<size_t>(slots) * kQueryTile * kHeadDim, NAN);
    partial_lse_.assign(static_cast<size_t>(slots) * kQueryTile, NAN);
    ListWork work = {.tile_begin = lists_.tile_begin.data(),
                     .tiles = lists_.tiles.data(),
                     .column_cut = lists_.cuts.data(),
                     .columns = lists_.columns.data(),
                     .column_keep = lists_.keep.data(),
                     .bands = kBands ? lists_.bands.data() : nullptr,
                     .band_cut = lists_.band_cuts.data(),
                     .list_heads = lists_.list_heads,
                     .column_stride = lists_.stride,
                     .key_tile = kKeyTile,
                     .band_stride = lists_.band_stride,
                     .items = lists_.items.data(),
                     .item_count = &item_count,
                     .partial_out = partial_out_.data(),
                     .partial_lse = partial_lse_.data()};
    int next_item = 0;
    run_block(kBlockThreads,
              [&] { hopper_attention<__nv_bfloat16, kHeadDim, kKeyTile, kList>(problem_, work, maps, &next_item); });
    merge_parts();
  }

  void expect_right() {
    double difference = 0;
    double norm = 0;
    for (int head = 0; head < setup_.query_heads; ++head) {
      for (int t = 0; t < problem_.query_tiles; ++t) {
        QueryTile tile = query_tile(problem_, t);
        for (int r = 0; r < tile.rows; ++r) compare_row(head, t, tile, r, difference, norm);
      }
    }
    EXPECT_LT(std::sqrt(difference / std::max(norm, 1e-30)), 6e-3);
  }

 private:
  void make_problem() {
    problem_ = {};
    problem_.out = out_.data();
    problem_.lse = lse_.data();
    problem_.out_stride[0] = setup_.query_heads * kHeadDim;
    problem_.out_stride[1] = kHeadDim;
    problem_.lse_stride = setup_.query_heads;
    problem_.query_heads = setup_.query_heads;
    problem_.kv_heads = setup_.kv_heads;
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
    std::mt19937 random(9);
    lists_.list_heads = setup_.query_heads;
    lists_.stride = (setup_.columns + 127) / 128 * 128;
    for (size_t s = 0; s < setup_.sequences.size(); ++s) {
      for (int h = 0; h < lists_.list_heads && setup_.columns > 0; ++h) {
        std::vector<int32_t> rows(static_cast<size_t>(setup_.sequences[s].key_rows));
        for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
        std::shuffle(rows.begin(), rows.end(), random);
        rows.resize(static_cast<size_t>(setup_.columns));
        std::sort(rows.begin(), rows.end());
        rows.resize(static_cast<size_t>(lists_.stride), h % 2 == 0 ? 0 : 1 << 30);  // never read as columns
        lists_.columns.insert(lists_.columns.end(), rows.begin(), rows.end());
      }
    }
    if (kBands) make_bands(random);
    for (int h = 0; h < lists_.list_heads; ++h) {
      for (int t = 0; t < problem_.query_tiles; ++t) add_list(h, t, random);
    }
    std::shuffle(lists_.items.begin(), lists_.items.end(), random);
  }

  // Entries at gaps of 32 and more; the density is that of entries among those that would fit without gaps.
  void make_bands(std::mt19937& random) {
    int32_t farthest = 0;
    for (const Sequence& s : setup_.sequences) {
      farthest = std::max(farthest, s.first_position + s.query_rows + kQueryTile);
    }
    lists_.band_stride = farthest / kBandTile + 1;
    for (int owner = 0; owner < problem_.sequences * lists_.list_heads; ++owner) {
      std::vector<int32_t> entries;
      for (int32_t e = 0; e < farthest;) {
        bool taken = random() % 1000 < setup_.density * 1000;
        if (taken) entries.push_back(e);
        e += random() % 2 == 0 ? kBandTile : kBandTile + static_cast<int32_t>(random() % 19);
      }
      entries.resize(static_cast<size_t>(lists_.band_stride), 1 << 29);
      lists_.bands.insert(lists_.bands.end(), entries.begin(), entries.end());
    }
  }

  // The entry that holds a key row, or -1.
  int band_entry(int list, const QueryTile& tile, int key, int cut) const {
    const int32_t* band = &lists_.bands[static_cast<size_t>(band_begin_of(list, tile))];
    for (int i = 0; i < cut; ++i) {
      int end = tile.position + 127 - band[i];
      if (key <= end && key > end - 32) return i;
    }
    return -1;
  }
  int band_begin_of(int list, const QueryTile& tile) const {
    return (tile.sequence * lists_.list_heads + list / problem_.query_tiles) * lists_.band_stride;
  }

  void add_list(int head, int t, std::mt19937& random) {
    QueryTile tile = query_tile(problem_, t);
    int32_t key_rows = problem_.sequence[tile.sequence].key_rows;
    int begin = lists_.tile_begin.back();
    int band_cut = 0;
    if (kBands) {
      const int32_t* band = &lists_.bands[static_cast<size_t>(band_begin_of(head * problem_.query_tiles, tile))];
      while (band_cut < lists_.band_stride && band[band_cut] <= tile.position + 127) ++band_cut;
      lists_.band_cuts.push_back(band_cut);
    }
    for (int k = 0; !kBands && k < visible_tiles(tile, key_rows, kKeyTile); ++k) {
      if (random() % 1000 >= setup_.density * 1000) continue;
      lists_.tiles.push_back(static_cast<uint32_t>(k) | (needs_mask(tile, key_rows, kKeyTile, k) ? kMaskedTile : 0u));
    }
    int end = static_cast<int>(lists_.tiles.size());
    lists_.tile_begin.push_back(end);
    int cut = 0;
    if (setup_.columns > 0) {
      const int32_t* columns = owned_columns(tile.sequence, head);
      while (cut < setup_.columns && columns[cut] < tile.position + tile.rows) ++cut;
      std::vector<uint32_t> keep(static_cast<size_t>(lists_.stride / 32));
      for (int c = 0; c < cut; ++c) {
        auto key_tile = static_cast<uint32_t>(columns[c] / kKeyTile);
        bool listed = std::any_of(lists_.tiles.begin() + begin, lists_.tiles.end(),
                                  [&](uint32_t entry) { return (entry & kTileIndex) == key_tile; });
        if (kBands) listed = band_entry(head * problem_.query_tiles + t, tile, columns[c], band_cut) >= 0;
        if (!listed) keep[static_cast<size_t>(c / 32)] |= 1u << (c % 32);
      }
      lists_.keep.insert(lists_.keep.end(), keep.begin(), keep.end());
    }
    lists_.cuts.push_back(cut);
    int units = list_units(kBands ? band_cut : end - begin, cut, kKeyTile, unit_rows(kHeadDim, kKeyTile));
    int parts = units > setup_.parts ? setup_.parts : 1;
    for (int part = 0; part < parts; ++part) {
      int first = part_begin(units, parts, part);
      int count = part_begin(units, parts, part + 1) - first;
      lists_.items.push_back({head * problem_.query_tiles + t, first, count, parts > 1 ? slots_++ : -1,
                              count > 0 ? static_cast<int32_t>(random() % static_cast<uint32_t>(count)) : 0});
    }
  }

  const int32_t* owned_columns(int sequence, int head) const {
    return &lists_.columns[static_cast<size_t>((sequence * lists_.list_heads + head) * lists_.stride)];
  }

  void gather(HopperMaps& maps) {
    int64_t owners = int64_t{problem_.sequences} * lists_.list_heads;
    if (lists_.stride == 0) return;
    column_keys_.assign(static_cast<size_t>(owners * lists_.stride * kHeadDim), 0);
    column_values_ = column_keys_;
    for (int64_t owner = 0; owner < owners; ++owner) {
      const SequenceRange& range = problem_.sequence[owner / lists_.list_heads];
      int64_t kv_head = owner % lists_.list_heads / (lists_.list_heads / setup_.kv_heads);
      for (int c = 0; c < setup_.columns; ++c) {
        int64_t row = range.key_begin + lists_.columns[static_cast<size_t>(owner * lists_.stride + c)];
        auto from = (row * setup_.kv_heads + kv_head) * kHeadDim;
        auto to = (owner * lists_.stride + c) * kHeadDim;
        std::copy_n(keys_.begin() + from, kHeadDim, column_keys_.begin() + to);
        std::copy_n(values_.begin() + from, kHeadDim, column_values_.begin() + to);
      }
    }
    EmulatedMap from{
        column_keys_.data(),          lists_.stride, owners, kHeadDim, kHeadDim, int64_t{lists_.stride} * kHeadDim,
        unit_rows(kHeadDim, kKeyTile)};
    std::memcpy(&maps.column_keys, &from, sizeof(from));
    from.data = column_values_.data();
    std::memcpy(&maps.column_values, &from, sizeof(from));
  }

  // The merge law in fp64, in place of the merge kernel.
  void merge_parts() {
    for (const WorkItem& item : lists_.items) {
      if (item.slot < 0) continue;
      if (item.begin != 0) continue;
      int head = item.row / problem_.query_tiles;
      QueryTile tile = query_tile(problem_, item.row % problem_.query_tiles);
      for (int r = 0; r < tile.rows; ++r) {
        double total = 0;
        std::vector<double> sum(kHeadDim);
        for (const WorkItem& part : lists_.items) {
          if (part.row != item.row) continue;
          auto at = static_cast<size_t>(part.slot * kQueryTile + r);
          double weight = std::exp(static_cast<double>(partial_lse_[at]));
          total += weight;
          for (size_t d = 0; d < kHeadDim; ++d) sum[d] += weight * partial_out_[at * kHeadDim + d];
        }
        auto row = static_cast<size_t>((tile.first_row + r) * setup_.query_heads + head);
        lse_[row] = static_cast<float>(std::log(total));
        for (size_t d = 0; d < kHeadDim; ++d) {
          out_[row * kHeadDim + d] = to_bits(total > 0 ? static_cast<float>(sum[d] / total) : 0.0f);
        }
      }
    }
  }

  bool is_chosen(int head, int t, int sequence, int key) const {
    if (!kList) return true;
    auto list = static_cast<size_t>(head * problem_.query_tiles + t);
    if (kBands && band_entry(static_cast<int>(list), query_tile(problem_, t), key, lists_.band_cuts[list]) >= 0)
      return true;
    for (int i = lists_.tile_begin[list]; i < lists_.tile_begin[list + 1]; ++i) {
      if (static_cast<int>(lists_.tiles[static_cast<size_t>(i)] & kTileIndex) == key / kKeyTile) return true;
    }
    return setup_.columns > 0 &&
           std::binary_search(owned_columns(sequence, head), owned_columns(sequence, head) + lists_.cuts[list], key);
  }

  void compare_row(int head, int t, const QueryTile& tile, int r, double& difference, double& norm) {
    const SequenceRange& range = problem_.sequence[tile.sequence];
    auto row = static_cast<size_t>((tile.first_row + r) * setup_.query_heads + head);
    int kv_head = head / (setup_.query_heads / setup_.kv_heads);
    double total = 0;
    std::vector<double> wanted(kHeadDim);
    for (int key = 0; key < std::min(range.key_rows, tile.position + r + 1); ++key) {
      if (!is_chosen(head, t, tile.sequence, key)) continue;
      auto at = static_cast<size_t>(((range.key_begin + key) * setup_.kv_heads + kv_head) * kHeadDim);
      double score = 0;
      for (size_t d = 0; d < kHeadDim; ++d)
        score += double{to_float(queries_[row * kHeadDim + d])} * to_float(keys_[at + d]);
      double weight = std::exp(score * problem_.scale);
      total += weight;
      for (size_t d = 0; d < kHeadDim; ++d) wanted[d] += weight * to_float(values_[at + d]);
    }
    if (total == 0) {
      ASSERT_TRUE(std::isinf(lse_[row]) && lse_[row] < 0) << "head " << head << " row " << tile.first_row + r;
    } else {
      ASSERT_NEAR(lse_[row], std::log(total), 1e-3) << "head " << head << " row " << tile.first_row + r;
    }
    for (size_t d = 0; d < kHeadDim; ++d) {
      double want = total > 0 ? wanted[d] / total : 0;
      double have = to_float(out_[row * kHeadDim + d]);
      ASSERT_NEAR(have, want, 0.03) << "head " << head << " row " << tile.first_row + r << " channel " << d;
      difference += (have - want) * (have - want);
      norm += want * want;
    }
  }

  Setup setup_;
  Problem problem_;
  Lists lists_;
  int64_t query_rows_ = 0, key_rows_ = 0;
  int slots_ = 0;
  std::vector<uint16_t> queries_, keys_, values_, out_, column_keys_, column_values_;
  std::vector<float> lse_, partial_out_, partial_lse_;
};

template <int kHeadDim, int kKeyTile, bool kList>
void run(const Setup& setup) {
  Run<kHeadDim, kKeyTile, kList> run(setup);
  run.launch();
  run.expect_right();
}

TEST(HopperEmulation, DenseOddLengthGroupedHeads) {
  run<64, 128, false>({.query_heads = 2, .sequences = {{0, 300, 0, 300, 0}}});
}

// Longer than the ring of stages, so that every barrier changes its parity.
TEST(HopperEmulation, DenseRunsThroughTheRingSeveralTimes) {
  run<128, 128, false>({.sequences = {{0, 130, 0, 900, 770}}});
}

// The tile of the last key that the first query row misses by one.
TEST(HopperEmulation, DenseMaskBeginsAtTheFirstHiddenKey) {
  run<64, 128, false>({.sequences = {{0, 40, 0, 166, 126}}});
}

TEST(HopperEmulation, DenseOtherHeadDims) {
  run<96, 128, false>({.sequences = {{0, 140, 0, 200, 60}}});
  run<256, 64, false>({.sequences = {{0, 70, 0, 200, 130}}});
}

TEST(HopperEmulation, DenseSeveralSequencesWithOffsets) {
  run<64, 128, false>({.query_heads = 2,
                       .kv_heads = 2,
                       .sequences = {{0, 5, 0, 70, 65}, {5, 0, 70, 9, 0}, {5, 131, 79, 200, 69}, {136, 3, 279, 0, 0}}});
}

TEST(HopperEmulation, ListsOfBothTileSizes) {
  run<64, 128, true>({.query_heads = 2, .sequences = {{0, 600, 0, 600, 0}}});
  run<64, 64, true>({.query_heads = 2, .kv_heads = 2, .sequences = {{0, 300, 0, 350, 50}}});
}

TEST(HopperEmulation, EmptyLists) {
  run<64, 128, true>({.query_heads = 2, .sequences = {{0, 300, 0, 300, 0}}, .density = 0});
}

TEST(HopperEmulation, ColumnsAloneAndBesideTiles) {
  run<64, 128, true>({.sequences = {{0, 400, 0, 400, 0}}, .density = 0, .columns = 150});
  run<64, 64, true>({.query_heads = 2, .sequences = {{0, 260, 0, 300, 40}}, .density = 0.4, .columns = 200});
  run<128, 128, true>({.query_heads = 2, .sequences = {{0, 100, 0, 200, 100}, {100, 150, 200, 150, 0}}, .columns = 90});
}

// Dense bands, gaps, a first tile cut off at row 0, tiles beyond the last key, several sequences.
TEST(HopperEmulation, Bands) {
  run<64, 32, true>({.query_heads = 2, .sequences = {{0, 300, 0, 300, 0}}, .density = 1});
  run<64, 32, true>({.query_heads = 2, .kv_heads = 2, .sequences = {{0, 270, 0, 333, 63}}, .density = 0.5});
  run<128, 32, true>({.query_heads = 2, .sequences = {{0, 100, 0, 200, 100}, {100, 150, 200, 150, 0}}, .columns = 90});
  run<96, 32, true>({.sequences = {{0, 140, 0, 120, 40}}, .density = 0.8, .columns = 40, .parts = 2});
  run<64, 32, true>({.sequences = {{0, 150, 0, 150, 0}}, .density = 0});
}

TEST(HopperEmulation, PartsOfLists) {
  run<64, 64, true>({.sequences = {{0, 400, 0, 400, 0}}, .density = 0.8, .columns = 70, .parts = 3});
}

}  // namespace
}  // namespace tessera::attention::cuda
