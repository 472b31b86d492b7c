// Choosing on the host, which the device repeats entry by entry: its arithmetic, its masses, its lists.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <vector>

#include "attention/cuda/block_score.h"
#include "attention/cuda/exact_probe.h"
#include "attention/cuda/line_bands.h"
#include "tessera/attention/cuda_select.h"
#include "tessera/base/random.h"

namespace tessera::attention::cuda {
namespace {

TEST(ExactMath, AgreesWithTheStandardLibrary) {
  for (float x = 0; x > -126; x -= 0.00731F) EXPECT_NEAR(exact_exp2(x) / std::exp2(double{x}), 1, 3e-7) << x;
  EXPECT_EQ(exact_exp2(0), 1);
  EXPECT_EQ(exact_exp2(-127), 0);
  EXPECT_EQ(exact_exp2(-INFINITY), 0);
  for (double x = 1; x < 4e9; x *= 1.0073) {
    EXPECT_NEAR(exact_log2(static_cast<float>(x)), std::log2(static_cast<double>(static_cast<float>(x))), 3e-6) << x;
  }
  for (int i = 0; i < 30; ++i) EXPECT_EQ(exact_log2(static_cast<float>(1 << i)), i);
}

TEST(ExactMath, ReadsEveryElement) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto word = static_cast<uint16_t>(bits);
    const float wide = __bfloat162float(__ushort_as_bfloat16(word));
    const float half = __half2float(__ushort_as_half(word));
    if (!std::isnan(wide)) EXPECT_EQ(element_value(word, false), wide) << bits;
    if (!std::isnan(half)) EXPECT_EQ(element_value(word, true), half) << bits;
  }
}

// A product of two coded means against the product itself, and its sum within what single precision adds exactly.
TEST(BlockScore, CodesKeepTheProductOfMeans) {
  Random random(2);
  for (int trial = 0; trial < 50; ++trial) {
    std::array<std::vector<float>, 2> means;
    std::array<float, 2> largest = {};
    for (size_t side = 0; side < 2; ++side) {
      for (int c = 0; c < 256; ++c) {
        means[side].push_back(static_cast<float>(random.normal()) * (c == 7 ? 4.0F : 1.0F));
        largest[side] = std::max(largest[side], std::abs(means[side].back()));
      }
    }
    double exact = 0;
    double norms[2] = {};
    int64_t dot = 0;
    for (size_t c = 0; c < 256; ++c) {
      const float codes[2] = {mean_code(means[0][c], largest[0]), mean_code(means[1][c], largest[1])};
      EXPECT_LE(std::max(std::abs(codes[0]), std::abs(codes[1])), 255);
      EXPECT_EQ(codes[0], std::round(codes[0]));
      dot += static_cast<int64_t>(codes[0]) * static_cast<int64_t>(codes[1]);
      exact += double{means[0][c]} * means[1][c];
      for (size_t side = 0; side < 2; ++side) norms[side] += double{means[side][c]} * means[side][c];
    }
    EXPECT_LT(std::abs(dot), 1 << 24);
    const float score = pair_score(static_cast<float>(dot), mean_step(largest[0]), mean_step(largest[1]), 1);
    // Rounding to a code is off by a half of largest / 255 at most, 1/sqrt(12) on the average.
    EXPECT_NEAR(score * std::log(2.0), exact, 0.0025 * std::sqrt(norms[0] * norms[1]));
  }
  EXPECT_EQ(mean_code(0, 0), 0);
  const uint32_t weights = pair_weight(3, 5) + pair_weight(5, 5);
  EXPECT_NEAR(tile_score(5, weights), std::log(std::exp2(3.0) + std::exp2(5.0)), 1e-5);
}

struct Shape {
  int32_t heads = 4, kv_heads = 2, head_dim = 64;
  bool half_precision = false;
  std::vector<Sequence> sequences;
};

// Rows with sinks, columns that all queries like, and a preference for near rows; on the host.
class Rows {
 public:
  explicit Rows(const Shape& shape, uint64_t seed = 1) : shape_(shape) {
    int64_t query_rows = 0;
    int64_t key_rows = 0;
    for (const Sequence& s : shape.sequences) {
      query_rows = std::max<int64_t>(query_rows, s.query_begin + s.query_rows);
      key_rows = std::max<int64_t>(key_rows, s.key_begin + s.key_rows);
    }
    Random random(seed);
    const auto fill = [&](std::vector<uint16_t>& bits, int64_t rows, int64_t heads, bool keys) {
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t h = 0; h < heads * shape.head_dim; ++h) {
          const int64_t c = h % shape.head_dim;
          auto x = static_cast<float>(random.normal());
          if (c == 0) x = keys ? (row % 250 == 77 || row < 3 ? 60.0F : 0) : 1;
          if (c >= 1 && c < 17) {
            const double angle = static_cast<double>(row) * 0.05 * std::pow(0.55, (c - 1) / 2);
            x = 4 * static_cast<float>(c % 2 == 1 ? std::cos(angle) : std::sin(angle));
          }
          bits.push_back(shape.half_precision ? __half_as_ushort(__float2half(x))
                                              : __bfloat16_as_ushort(__float2bfloat16(x)));
        }
      }
    };
    fill(queries_, query_rows, shape.heads, false);
    fill(keys_, key_rows, shape.kv_heads, true);
    const ElementType type = shape.half_precision ? ElementType::f16 : ElementType::bf16;
    lse_.resize(static_cast<size_t>(query_rows * shape.heads));
    arguments.queries = contiguous_view(queries_.data(), type, {query_rows, shape.heads, shape.head_dim});
    arguments.keys = contiguous_view(keys_.data(), type, {key_rows, shape.kv_heads, shape.head_dim});
    arguments.values = arguments.keys;
    arguments.out = arguments.queries;
    arguments.lse = contiguous_view(lse_.data(), ElementType::f32, {query_rows, shape.heads});
    arguments.sequences = shape.sequences;
  }

  double score(const Sequence& sequence, int32_t head, int32_t row, int32_t key) const {
    const int64_t query = (int64_t{sequence.query_begin} + row) * shape_.heads + head;
    const int64_t from =
        (int64_t{sequence.key_begin} + key) * shape_.kv_heads + head / (shape_.heads / shape_.kv_heads);
    double sum = 0;
    for (int64_t c = 0; c < shape_.head_dim; ++c) {
      sum += double{element_value(queries_[static_cast<size_t>(query * shape_.head_dim + c)], shape_.half_precision)} *
             element_value(keys_[static_cast<size_t>(from * shape_.head_dim + c)], shape_.half_precision);
    }
    return sum / std::sqrt(static_cast<double>(shape_.head_dim));
  }

  AttentionArguments arguments;

 private:
  Shape shape_;
  std::vector<uint16_t> queries_, keys_;
  std::vector<float> lse_;
};

// The lists of one call, and of every (sequence, head, query tile) in them.
class Chosen {
 public:
  Chosen(const AttentionArguments& arguments, const SelectOptions& options) : arguments_(arguments) {
    memory_.resize(host_list_bytes(arguments, options) + 256);
    auto* base = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(memory_.data()) + 255) & ~uintptr_t{255});
    selected = select_on_host(arguments, options, {.data = base, .bytes = memory_.size() - 256});
  }

  std::vector<uint32_t> tiles(int32_t head, int32_t tile) const {
    const auto list = head * selected.work.query_tiles + tile;
    return {selected.work.tiles + selected.work.tile_begin[list],
            selected.work.tiles + selected.work.tile_begin[list + 1]};
  }
  std::vector<int32_t> columns(int32_t sequence, int32_t head, int32_t tile) const {
    if (selected.work.column_stride == 0) return {};
    const int32_t owner = sequence * selected.work.list_heads + head;
    const int32_t* from = selected.work.columns + int64_t{owner} * selected.work.column_stride;
    return {from, from + selected.work.column_cut[head * selected.work.query_tiles + tile]};
  }
  bool computes(const Sequence& sequence, int32_t index, int32_t head, int32_t tile, int32_t key) const {
    if (key > sequence.first_position + std::min((tile + 1) * kQueryTile, sequence.query_rows) - 1) return false;
    for (const uint32_t entry : tiles(head, tile)) {
      if (static_cast<int32_t>(entry & kTileIndex) == key / selected.work.key_tile) return true;
    }
    const std::vector<int32_t> lines = columns(index, head, tile);
    return std::binary_search(lines.begin(), lines.end(), key);
  }

  Selected selected;

 private:
  AttentionArguments arguments_;
  std::vector<std::byte> memory_;
};

// Masses of the probe against softmax in fp64; and they depend neither on how keys are cut nor on the threads' order.
TEST(ExactProbe, MassesAreThoseOfTheSoftmax) {
  for (const bool half_precision : {false, true}) {
    const Sequence sequence{0, 300, 0, 1000, 700};
    const Rows rows({.heads = 2, .kv_heads = 1, .half_precision = half_precision, .sequences = {sequence}});
    Probe probe;
    probe.queries = rows.arguments.queries.data;
    probe.keys = rows.arguments.keys.data;
    probe.query_stride[0] = 128;
    probe.query_stride[1] = 64;
    probe.key_stride[0] = probe.key_stride[1] = 64;
    probe.query_heads = 2;
    probe.kv_heads = 1;
    probe.head_dim = 64;
    probe.scale = 0.125F;
    probe.key_rows = 1000;
    set_last_rows(probe, 0, 300, 700);
    std::vector<std::vector<float>> found;
    for (const int range : {2, 6, 16}) {
      for (const bool descending : {false, true}) {
        std::vector<uint64_t> partial(2 * kProbeRows * 2);
        std::vector<float> columns(2000);
        std::vector<float> diagonals(2000);
        probe.partial = reinterpret_cast<float*>(partial.data());
        probe.column_mass = columns.data();
        probe.diagonal_mass = diagonals.data();
        const auto shared = std::make_unique<ExactShared<64>>();
        const ExactBlock block{.descending = descending};
        const auto pass = [&](auto run) {
          for (int32_t head = 0; head < 2; ++head) {
            for (int32_t first = 0; first < 16; first += range) {
              run(ExactPlace{head, first, std::min(first + range, 16), half_precision});
            }
          }
        };
        const ExactRows of = exact_rows(probe);
        pass([&](const ExactPlace& at) { ExactProbe<64, ExactPass::largest>{block, probe, of, at, *shared}.run(); });
        pass([&](const ExactPlace& at) { ExactProbe<64, ExactPass::sum>{block, probe, of, at, *shared}.run(); });
        pass([&](const ExactPlace& at) { ExactProbe<64, ExactPass::lines>{block, probe, of, at, *shared}.run(); });
        for (int64_t i = 0; i < 2000; ++i) finish_diagonal(diagonals.data(), i);
        columns.insert(columns.end(), diagonals.begin(), diagonals.end());
        found.push_back(columns);
        EXPECT_EQ(found.back(), found.front()) << range << descending;
      }
    }
    double worst = 0;
    double total = 0;
    for (int32_t head = 0; head < 2; ++head) {
      std::vector<double> columns(1000);
      std::vector<double> diagonals(1000);
      for (int32_t row = 236; row < 300; ++row) {
        std::vector<double> weights;
        double sum = 0;
        for (int32_t key = 0; key <= 700 + row; ++key) {
          weights.push_back(std::exp(rows.score(sequence, head, row, key)));
          sum += weights.back();
        }
        for (size_t key = 0; key < weights.size(); ++key) {
          columns[key] += weights[key] / sum;
          diagonals[static_cast<size_t>(700 + row) - key] += weights[key] / sum;
        }
      }
      for (size_t i = 0; i < 1000; ++i) {
        worst = std::max(worst, std::abs(columns[i] - found[0][static_cast<size_t>(head) * 1000 + i]));
        worst = std::max(worst, std::abs(diagonals[i] - found[0][2000 + static_cast<size_t>(head) * 1000 + i]));
        total += found[0][static_cast<size_t>(head) * 1000 + i];
      }
    }
    EXPECT_LT(worst, 0.35);  // of 64: what codes of 8 bits do to the heaviest columns
    EXPECT_NEAR(total, 128, 0.01);
  }
}

// Per head, the diagonals that a selection kept: from its own masses, by the rule of the options.
std::vector<std::vector<int32_t>> kept_distances(const Rows& rows, const Sequence& sequence,
                                                 const SelectOptions& options) {
  AttentionArguments arguments = rows.arguments;
  arguments.sequences = {sequence};
  const Chosen alone(arguments, options);
  std::vector<std::vector<int32_t>> kept;
  for (int32_t head = 0; head < alone.selected.work.list_heads; ++head) {
    const float* mass = alone.selected.diagonal_mass + int64_t{head} * sequence.key_rows;
    std::vector<int32_t>& distances = kept.emplace_back(static_cast<size_t>(sequence.key_rows));
    for (size_t i = 0; i < distances.size(); ++i) distances[i] = static_cast<int32_t>(i);
    std::stable_sort(distances.begin(), distances.end(), [&](int32_t a, int32_t b) {
      const bool forced[] = {a < options.local, b < options.local};
      return forced[0] != forced[1] ? forced[0] : !forced[0] && mass[a] > mass[b];
    });
    distances.resize(static_cast<size_t>(std::min(options.slash, sequence.key_rows)));
  }
  return kept;
}

// Every sequence gets the lists that it would get alone.
TEST(SelectOnHost, SeveralSequencesAreChosenEachByItself) {
  const Shape shape{
      .sequences = {{0, 300, 0, 700, 400}, {300, 0, 700, 9, 0}, {300, 2100, 709, 2100, 0}, {2400, 5, 2809, 70, 65}}};
  const Rows rows(shape);
  for (const Method method : {Method::a_shape, Method::vertical_slash, Method::recall, Method::tiles,
                              Method::block_mean, Method::block_lse, Method::automatic}) {
    SelectOptions options{.method = method, .vertical = 60, .slash = 90, .sinks = 20, .local = 30, .window = 200};
    options.recall = 0.8F;
    options.crossover = 2000;
    options.dense_rows = method == Method::a_shape ? 40 : 0;
    options.threshold = 0.3F;
    const Chosen all(rows.arguments, options);
    ASSERT_FALSE(all.selected.dense);
    ASSERT_EQ(*all.selected.overflow, 0U);
    // Also for the sequences that are too short to judge by.
    for (size_t i = 0; all.selected.report != nullptr && i < 8 * static_cast<size_t>(shape.heads); ++i) {
      EXPECT_TRUE(std::isfinite(all.selected.report[i])) << static_cast<int>(method) << ' ' << i;
    }
    int32_t first_tile = 0;
    size_t entries = 0;
    for (int32_t s = 0; s < 4; ++s) {
      const Sequence& sequence = shape.sequences[static_cast<size_t>(s)];
      const int32_t tiles = (sequence.query_rows + 127) / 128;
      AttentionArguments arguments = rows.arguments;
      arguments.sequences = {sequence};
      const bool dense = method == Method::automatic && s != 2;
      if (tiles == 0) continue;
      const Chosen one(arguments, options);
      EXPECT_EQ(one.selected.dense, dense);
      for (int32_t head = 0; head < shape.heads; ++head) {
        for (int32_t tile = 0; tile < tiles; ++tile) {
          const std::vector<uint32_t> found = all.tiles(head, first_tile + tile);
          entries += found.size();
          if (dense) {
            EXPECT_EQ(found.size(),
                      static_cast<size_t>(
                          (sequence.first_position + std::min(tile * 128 + 128, sequence.query_rows) + 127) / 128));
            EXPECT_TRUE(all.columns(s, head, first_tile + tile).empty());
            continue;
          }
          EXPECT_EQ(found, one.tiles(head, tile)) << static_cast<int>(method) << ' ' << s << ' ' << head << ' ' << tile;
          EXPECT_EQ(all.columns(s, head, first_tile + tile), one.columns(0, head, tile));
        }
      }
      first_tile += tiles;
    }
    EXPECT_EQ(first_tile, all.selected.work.query_tiles);
    EXPECT_GT(entries, 0U);
  }
}

// Rows that had no say find most of their mass in the lists.
TEST(SelectOnHost, RecallReachesItsTargetOnOtherRows) {
  for (const int32_t head_dim : {64, 256}) {
    const Sequence sequence{0, 2300, 0, 2300, 0};
    const Shape shape{.heads = 2, .kv_heads = 1, .head_dim = head_dim, .sequences = {sequence}};
    const Rows rows(shape, 3);
    const Chosen chosen(rows.arguments, {.method = Method::recall, .sinks = 4, .recall = 0.85F});
    double covered = 0;
    int count = 0;
    for (int32_t head = 0; head < 2; ++head) {
      EXPECT_GE(chosen.selected.report[2 * head], 0.85F - 1e-4F);
      EXPECT_LT(chosen.selected.report[2 * head + 1], 0.9F);
      for (int32_t row = 150; row < 2300; row += 211, ++count) {
        double sum = 0;
        double kept = 0;
        for (int32_t key = 0; key <= row; ++key) {
          const double weight = std::exp(rows.score(sequence, head, row, key));
          sum += weight;
          if (chosen.computes(sequence, 0, head, row / 128, key)) kept += weight;
        }
        covered += kept / sum;
      }
    }
    EXPECT_GT(covered / count, 0.8);
  }
}

TEST(SelectOnHost, BlockScoresDecideAndHeadDim256WritesPairs) {
  for (const auto& [method, head_dim] : std::vector<std::pair<Method, int32_t>>{
           {Method::block_lse, 64}, {Method::block_lse, 256}, {Method::block_mean, 96}, {Method::block_mean, 256}}) {
    const Sequence sequence{0, 700, 0, 1337, 637};
    const Shape shape{.heads = 2, .kv_heads = 1, .head_dim = head_dim, .sequences = {sequence}};
    const Rows rows(shape, 4);
    SelectOptions options{.method = method, .sinks = 4, .window = 128, .threshold = 0.2F};
    const Chosen chosen(rows.arguments, options);
    const int32_t size = method == Method::block_lse ? 32 : 128;
    int undecided = 0;
    int left_out = 0;
    for (int32_t head = 0; head < 2; ++head) {
      for (int32_t tile = 0; tile < 6; ++tile) {
        const int32_t end = std::min(tile * 128 + 128, 700);
        const int32_t last_own = 637 + end - 1;
        std::vector<double> scores;
        for (int32_t key_tile = 0; key_tile * 128 <= last_own; ++key_tile) {
          double sum = 0;
          for (int32_t q = tile * 128; q < end; q += size) {
            const int32_t q_end = std::min(q + size, 700);
            for (int32_t k = key_tile * 128; k < std::min(key_tile * 128 + 128, 637 + q_end); k += size) {
              // The score of two means is the mean of the scores.
              double mean = 0;
              const int32_t k_end = std::min(k + size, 1337);
              for (int32_t i = q; i < q_end; ++i) {
                for (int32_t j = k; j < k_end; ++j) mean += rows.score(sequence, head, i, j);
              }
              sum += std::exp(mean / (q_end - q) / (k_end - k));
            }
          }
          scores.push_back(std::log(sum));
        }
        const double limit = *std::max_element(scores.begin(), scores.end()) + std::log(0.2);
        for (int32_t key_tile = 0; key_tile < static_cast<int32_t>(scores.size()); ++key_tile) {
          const double score = scores[static_cast<size_t>(key_tile)];
          const bool forced = key_tile == 0 || key_tile * 128 + 128 > 637 + tile * 128 - 128 + 1;
          const int32_t parts = 128 / chosen.selected.work.key_tile;
          for (int32_t part = 0; part < parts; ++part) {
            const int32_t entry = key_tile * parts + part;
            const bool visible = entry * chosen.selected.work.key_tile <= last_own;
            const std::vector<uint32_t> tiles = chosen.tiles(head, tile);
            const bool masked = (entry + 1) * chosen.selected.work.key_tile - 1 > 637 + tile * 128;
            const uint32_t wanted = static_cast<uint32_t>(entry) | (masked ? kMaskedTile : 0U);
            const bool listed = std::find(tiles.begin(), tiles.end(), wanted) != tiles.end();
            left_out += !listed && visible ? 1 : 0;
            if (!visible) {
              EXPECT_FALSE(listed);
            } else if (forced || score > limit + 0.02) {
              EXPECT_TRUE(listed) << head_dim << ' ' << tile << ' ' << entry;
            } else if (score < limit - 0.02) {
              EXPECT_FALSE(listed) << head_dim << ' ' << tile << ' ' << entry;
            } else {
              ++undecided;
            }
          }
        }
      }
    }
    EXPECT_LT(undecided, 10);
    EXPECT_GT(left_out, 20);
  }
}

// Every key row that a kept diagonal asks for lies in exactly one entry, and no more entries are there than the runs of
// diagonals need when each begins a tile of its own.
TEST(SelectOnHost, BandsCoverTheDiagonals) {
  const Shape shape{.sequences = {{0, 300, 0, 900, 600}, {300, 5, 900, 9, 4}, {305, 2500, 909, 2500, 0}}};
  const Rows rows(shape);
  for (const int32_t slash : {40, 1800}) {
    const SelectOptions options{
        .method = Method::vertical_slash, .vertical = 60, .slash = slash, .sinks = 20, .local = 1};
    SelectOptions by_bands = options;
    by_bands.bands = true;
    const Chosen tiles(rows.arguments, options);
    const Chosen bands(rows.arguments, by_bands);
    const DeviceWorkList& work = bands.selected.work;
    ASSERT_EQ(*bands.selected.overflow, 0U);
    ASSERT_EQ(work.key_tile, kBandTile);
    int32_t first_tile = 0;
    for (int32_t s = 0; s < 3; ++s) {
      const Sequence& sequence = shape.sequences[static_cast<size_t>(s)];
      const int32_t count = (sequence.query_rows + 127) / 128;
      const std::vector<std::vector<int32_t>> distances = kept_distances(rows, sequence, options);
      for (int32_t head = 0; head < shape.heads; ++head) {
        for (int32_t t = 0; t < count; ++t) {
          EXPECT_EQ(bands.columns(s, head, first_tile + t), tiles.columns(s, head, first_tile + t));
          const int32_t* band = work.bands + int64_t{s * work.list_heads + head} * work.band_stride;
          const int32_t cut = work.band_cut[head * work.query_tiles + first_tile + t];
          ASSERT_LE(cut, work.band_stride);
          std::vector<int> covered(static_cast<size_t>(sequence.first_position + t * 128 + 128));
          for (int32_t i = 0; i < cut; ++i) {
            const int32_t end = sequence.first_position + t * 128 + 127 - band[i];
            ASSERT_GE(end, 0);
            for (int32_t key = std::max(end - 31, 0); key <= end; ++key) ++covered[static_cast<size_t>(key)];
          }
          EXPECT_LE(*std::max_element(covered.begin(), covered.end()), 1);
          std::vector<int> wanted(covered.size());
          for (const int32_t distance : distances[static_cast<size_t>(head)]) {
            for (int32_t row = t * 128; row < t * 128 + 128; ++row) {
              if (sequence.first_position + row >= distance) {
                wanted[static_cast<size_t>(sequence.first_position + row - distance)] = 1;
              }
            }
          }
          int runs = 0;
          for (size_t key = 0; key < wanted.size(); ++key) {
            EXPECT_LE(wanted[key], covered[key]) << s << head << t << ' ' << key;
            runs += wanted[key] == 1 && (key == 0 || wanted[key - 1] == 0) ? 1 : 0;
          }
          const auto keys = std::count(wanted.begin(), wanted.end(), 1);
          EXPECT_LE(32 * cut, keys + 62 * runs);
        }
      }
      first_tile += count;
    }
  }
}

// How a block's threads are ordered does not matter, nor where the chunks of distances end.
TEST(LineBands, FollowEachOtherUntilAGap) {
  std::vector<int32_t> distances;
  for (int32_t d = 0; d < 1500; ++d) distances.push_back(d);                // a run across two chunks of 1,024
  for (const int32_t d : {1657, 1816, 1817, 5000}) distances.push_back(d);  // too near by one, far enough, next to it
  std::vector<int32_t> wanted;
  for (int32_t e = 0; e <= 1657 + 127; e += 32) wanted.push_back(e);
  for (int32_t e = 1816; e <= 1817 + 127; e += 32) wanted.push_back(e);
  for (int32_t e = 5000; e <= 5127; e += 32) wanted.push_back(e);
  for (const bool descending : {false, true}) {
    const auto shared = std::make_unique<BandShared>();
    std::vector<int32_t> bands(static_cast<size_t>(band_room(1504, 6000)));
    int32_t count = 0;
    write_bands({.descending = descending}, {distances.data(), 1504, bands.data(), &count}, *shared);
    bands.resize(static_cast<size_t>(count));
    EXPECT_EQ(bands, wanted);
  }
  EXPECT_EQ(band_cut(128, wanted.data(), static_cast<int32_t>(wanted.size())), 8);  // entries 0 .. 224 of rows 0 .. 255
  EXPECT_EQ(band_cut(129, wanted.data(), static_cast<int32_t>(wanted.size())), 9);
}

TEST(Crossover, LiesWhereChoosingCostsATenthOfDense) {
  // Choosing linear, dense quadratic: the share is 0.4 at 2,048 rows and a tenth at 8,192.
  std::vector<CrossoverTime> times;
  for (const int32_t rows : {2048, 4096, 8192, 16384}) times.push_back({rows, 0.4 * rows, rows * (rows / 2048.0)});
  EXPECT_EQ(crossover_from(times), 8192);
  for (CrossoverTime& time : times) time.choosing_ms *= 1.5;
  EXPECT_EQ(crossover_from(times), 12288);
  EXPECT_EQ(crossover_from({{2048, 0.01, 1}}), 2048);             // cheap from the first length on
  EXPECT_EQ(crossover_from({{2048, 1, 1}, {4096, 1, 1}}), 4096);  // never cheap
  EXPECT_THROW(crossover_from({}), Error);
}

TEST(SelectOnHost, RefusesWhatDoesNotFit) {
  const Rows rows({.sequences = {{0, 300, 0, 700, 401}}});
  EXPECT_THROW(host_list_bytes(rows.arguments, {.method = Method::recall}), Error);
  const Rows good({.sequences = {{0, 300, 0, 700, 400}}});
  EXPECT_THROW(host_list_bytes(good.arguments, {.method = Method::recall, .correction_levels = 3}), Error);
  EXPECT_THROW(select_on_host(good.arguments, {.method = Method::recall}, {}), Error);
  EXPECT_THROW(host_list_bytes(good.arguments, {.method = Method::recall, .bands = true}), Error);
  EXPECT_THROW(
      host_list_bytes(good.arguments, {.method = Method::vertical_slash, .correction_levels = 1, .bands = true}),
      Error);
  const Rows wide({.head_dim = 256, .sequences = {{0, 300, 0, 700, 400}}});
  EXPECT_THROW(host_list_bytes(wide.arguments, {.method = Method::vertical_slash, .bands = true}), Error);
  AttentionArguments long_rows = good.arguments;
  long_rows.keys.shape[0] = long_rows.values.shape[0] = 4000000;
  long_rows.sequences = {{0, 300, 0, 4000000, 0}};
  EXPECT_THROW(host_list_bytes(long_rows, {.method = Method::block_lse}), Error);
}

}  // namespace
}  // namespace tessera::attention::cuda
