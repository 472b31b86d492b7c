// The upper rungs of the GPU check: whole attention calls against fp64 on the CPU.
//
//   ladder_attention RUNG [mma]     tile | dense | dims | half | groups | varlen | offsets | lists | lists64 | columns
//   | bands | split | empty
//
// `mma` asks for the mma.sync kernel. One line of JSON per case; exit status 1 when a case misses its bound. Every case
// starts from poisoned outputs, and runs twice: the repeats must agree bit by bit.
#include <string>

#include "gpu/support.h"

namespace {

using namespace tessera::attention::cuda;
using check::DeviceArray;

enum class Lists { dense, full, random, none, long_last, bands };

struct Case {
  std::string name;
  int query_heads = 1;
  int kv_heads = 1;
  int head_dim = 128;
  bool half_precision = false;
  std::vector<Sequence> sequences = {};
  Lists lists = Lists::dense;
  int key_tile = 128;
  bool lists_per_group = false;
  int columns = 0;       // per list head
  double density = 0.3;  // of random lists
};

struct HostLists {
  std::vector<int32_t> tile_begin = {0};
  std::vector<uint32_t> tiles;
  std::vector<int32_t> columns, column_count, column_cut, bands, band_cut;
  int32_t list_heads = 0, column_stride = 0, band_stride = 0;
};

Problem ranges_only(const Case& c) {
  Problem problem = {};
  problem.sequences = static_cast<int32_t>(c.sequences.size());
  problem.query_heads = c.query_heads;
  problem.kv_heads = c.kv_heads;
  int32_t tile = 0;
  for (size_t s = 0; s < c.sequences.size(); ++s) {
    const Sequence& from = c.sequences[s];
    problem.sequence[s] = {from.query_begin, from.query_rows, from.key_begin, from.key_rows, from.first_position, tile};
    tile += (from.query_rows + kQueryTile - 1) / kQueryTile;
  }
  problem.query_tiles = tile;
  return problem;
}

// Entries at gaps of 32 rows, some a little more; every owner its own.
void make_bands(const Case& c, const Problem& problem, HostLists& lists, std::mt19937_64& random) {
  std::uniform_real_distribution<double> uniform;
  int32_t farthest = 0;
  for (const Sequence& s : c.sequences) farthest = std::max(farthest, s.first_position + s.query_rows + kQueryTile);
  lists.band_stride = farthest / kBandTile + 1;
  for (int owner = 0; owner < problem.sequences * lists.list_heads; ++owner) {
    std::vector<int32_t> entries;
    for (int32_t e = 0; e < farthest; e += kBandTile + (random() % 2 == 0 ? 0 : static_cast<int32_t>(random() % 23))) {
      if (uniform(random) < c.density) entries.push_back(e);
    }
    entries.resize(static_cast<size_t>(lists.band_stride), 1 << 29);
    lists.bands.insert(lists.bands.end(), entries.begin(), entries.end());
  }
  for (int h = 0; h < lists.list_heads; ++h) {
    for (int t = 0; t < problem.query_tiles; ++t) {
      QueryTile tile = query_tile(problem, t);
      const int32_t* band =
          &lists.bands[static_cast<size_t>((tile.sequence * lists.list_heads + h) * lists.band_stride)];
      int cut = 0;
      while (cut < lists.band_stride && band[cut] <= tile.position + 127) ++cut;
      lists.band_cut.push_back(cut);
    }
  }
}

HostLists make_lists(const Case& c, std::mt19937_64& random) {
  Problem problem = ranges_only(c);
  HostLists lists;
  lists.list_heads = c.lists_per_group ? c.kv_heads : c.query_heads;
  lists.column_stride = (c.columns + 127) / 128 * 128;
  std::uniform_real_distribution<double> uniform;
  for (size_t s = 0; s < c.sequences.size() && c.columns > 0; ++s) {
    for (int h = 0; h < lists.list_heads; ++h) {
      std::vector<int32_t> rows(static_cast<size_t>(c.sequences[s].key_rows));
      for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
      std::shuffle(rows.begin(), rows.end(), random);
      rows.resize(std::min(rows.size(), static_cast<size_t>(c.columns)));
      std::sort(rows.begin(), rows.end());
      lists.column_count.push_back(static_cast<int32_t>(rows.size()));
      rows.resize(static_cast<size_t>(lists.column_stride), 0);
      lists.columns.insert(lists.columns.end(), rows.begin(), rows.end());
    }
  }
  if (c.lists == Lists::bands) make_bands(c, problem, lists, random);
  for (int h = 0; h < lists.list_heads; ++h) {
    for (int t = 0; t < problem.query_tiles; ++t) {
      QueryTile tile = query_tile(problem, t);
      int key_rows = problem.sequence[tile.sequence].key_rows;
      int visible = visible_tiles(tile, key_rows, c.key_tile);
      for (int k = 0; k < visible; ++k) {
        bool chosen = c.lists == Lists::full || (c.lists == Lists::random && uniform(random) < c.density) ||
                      (c.lists == Lists::long_last && (t + 1 == problem.query_tiles || k + 1 == visible));
        if (!chosen) continue;
        lists.tiles.push_back(static_cast<uint32_t>(k) |
                              (needs_mask(tile, key_rows, c.key_tile, k) ? kMaskedTile : 0u));
      }
      lists.tile_begin.push_back(static_cast<int32_t>(lists.tiles.size()));
      if (c.columns > 0) {
        size_t owner = static_cast<size_t>(tile.sequence * lists.list_heads + h);
        const int32_t* columns = &lists.columns[owner * static_cast<size_t>(lists.column_stride)];
        int cut = 0;
        while (cut < lists.column_count[owner] && columns[cut] < tile.position + tile.rows) ++cut;
        lists.column_cut.push_back(cut);
      }
    }
  }
  return lists;
}

struct HostTensors {
  int64_t query_rows = 0, key_rows = 0;
  std::vector<uint16_t> queries, keys, values;
};

struct Expected {
  std::vector<double> out, lse;  // [rows, heads, head_dim], [rows, heads]; rows of no sequence: not compared
  std::vector<char> named;       // [rows]
};

// Which keys query row r of tile t computes.
std::vector<char> chosen_keys(const Case& c, const HostLists& lists, const Problem& problem, int head, int t) {
  QueryTile tile = query_tile(problem, t);
  const SequenceRange& range = problem.sequence[tile.sequence];
  std::vector<char> chosen(static_cast<size_t>(range.key_rows), c.lists == Lists::dense);
  if (c.lists == Lists::dense) return chosen;
  int list = list_of(problem, lists.list_heads, head * problem.query_tiles + t);
  for (int i = lists.tile_begin[static_cast<size_t>(list)]; i < lists.tile_begin[static_cast<size_t>(list) + 1]; ++i) {
    int first = static_cast<int>(lists.tiles[static_cast<size_t>(i)] & kTileIndex) * c.key_tile;
    for (int k = first; k < std::min(first + c.key_tile, range.key_rows); ++k) chosen[static_cast<size_t>(k)] = 1;
  }
  int owner = tile.sequence * lists.list_heads + list / problem.query_tiles;
  if (c.lists == Lists::bands) {
    for (int i = 0; i < lists.band_cut[static_cast<size_t>(list)]; ++i) {
      int end = tile.position + 127 - lists.bands[static_cast<size_t>(owner * lists.band_stride + i)];
      for (int k = std::max(end - 31, 0); k <= std::min(end, range.key_rows - 1); ++k)
        chosen[static_cast<size_t>(k)] = 1;
    }
  }
  if (c.columns > 0) {
    for (int i = 0; i < lists.column_cut[static_cast<size_t>(list)]; ++i) {
      chosen[static_cast<size_t>(lists.columns[static_cast<size_t>(owner * lists.column_stride + i)])] = 1;
    }
  }
  return chosen;
}

Expected reference(const Case& c, const HostLists& lists, const HostTensors& tensors) {
  Problem problem = ranges_only(c);
  auto dim = static_cast<size_t>(c.head_dim);
  auto heads = static_cast<size_t>(c.query_heads);
  auto rows = static_cast<size_t>(tensors.query_rows);
  Expected expected{std::vector<double>(rows * heads * dim), std::vector<double>(rows * heads),
                    std::vector<char>(rows)};
  double scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
  check::parallel_for(int64_t{c.query_heads} * problem.query_tiles, [&](int64_t item) {
    int head = static_cast<int>(item / problem.query_tiles);
    int t = static_cast<int>(item % problem.query_tiles);
    int kv_head = head / (c.query_heads / c.kv_heads);
    QueryTile tile = query_tile(problem, t);
    const SequenceRange& range = problem.sequence[tile.sequence];
    std::vector<char> chosen = chosen_keys(c, lists, problem, head, t);
    auto key_at = [&](int k) {
      return (static_cast<size_t>(range.key_begin + k) * static_cast<size_t>(c.kv_heads) +
              static_cast<size_t>(kv_head)) *
             dim;
    };
    for (int r = 0; r < tile.rows; ++r) {
      size_t row = static_cast<size_t>(tile.first_row + r) * heads + static_cast<size_t>(head);
      std::vector<std::pair<int, double>> scores;
      double top = -std::numeric_limits<double>::infinity();
      for (int k = 0; k < std::min(range.key_rows, tile.position + r + 1); ++k) {
        if (!chosen[static_cast<size_t>(k)]) continue;
        double sum = 0;
        for (size_t d = 0; d < dim; ++d) {
          sum += double{check::decode(tensors.queries[row * dim + d], c.half_precision)} *
                 check::decode(tensors.keys[key_at(k) + d], c.half_precision);
        }
        scores.emplace_back(k, sum * scale);
        top = std::max(top, sum * scale);
      }
      double total = 0;
      for (auto& [k, s] : scores) total += std::exp(s - top);
      expected.lse[row] = scores.empty() ? top : top + std::log(total);
      for (auto& [k, s] : scores) {
        double weight = std::exp(s - expected.lse[row]);
        for (size_t d = 0; d < dim; ++d) {
          expected.out[row * dim + d] += weight * check::decode(tensors.values[key_at(k) + d], c.half_precision);
        }
      }
      if (head == 0) expected.named[static_cast<size_t>(tile.first_row + r)] = 1;
    }
  });
  return expected;
}

struct Outcome {
  double out_error = 0, lse_error = 0;
  int64_t wrong_empty = 0, unwritten = 0;
  bool repeats_agree = true;
};

Outcome compare(const Case& c, const Expected& expected, const std::vector<uint16_t>& out,
                const std::vector<float>& lse) {
  Outcome outcome;
  auto dim = static_cast<size_t>(c.head_dim);
  auto heads = static_cast<size_t>(c.query_heads);
  std::vector<float> found;
  std::vector<double> wanted;
  for (size_t row = 0; row < lse.size(); ++row) {
    if (!expected.named[row / heads]) continue;
    bool empty = std::isinf(expected.lse[row]);
    if (empty) {
      outcome.wrong_empty += !(std::isinf(lse[row]) && lse[row] < 0);
    } else {
      double error = std::fabs(lse[row] - expected.lse[row]);
      outcome.lse_error =
          std::isfinite(error) ? std::max(outcome.lse_error, error) : std::numeric_limits<double>::infinity();
    }
    for (size_t d = 0; d < dim; ++d) {
      float value = check::decode(out[row * dim + d], c.half_precision);
      outcome.unwritten += std::isnan(value);
      if (empty) outcome.wrong_empty += value != 0;
      found.push_back(value);
      wanted.push_back(expected.out[row * dim + d]);
    }
  }
  outcome.out_error = check::relative_error(found, wanted);
  return outcome;
}

void print_first_rows(const Case& c, const Expected& expected, const std::vector<uint16_t>& out,
                      const std::vector<float>& lse) {
  auto dim = static_cast<size_t>(c.head_dim);
  for (size_t row : {size_t{0}, size_t{1}, size_t{8}, size_t{16}, size_t{63}, size_t{64}, size_t{127}}) {
    size_t at = row * static_cast<size_t>(c.query_heads);
    if (at >= lse.size()) break;
    std::printf("# row %zu head 0: lse %g (wanted %g), out", row, lse[at], expected.lse[at]);
    for (size_t d : {size_t{0}, size_t{1}, size_t{8}, size_t{33}}) {
      std::printf(" %g (%g)", check::decode(out[at * dim + d], c.half_precision), expected.out[at * dim + d]);
    }
    std::printf("\n");
  }
}

// With room for one entry less, or with the maker's flag set, finish() must object.
bool finds_overflow(const AttentionArguments& arguments, const DeviceWorkList& work, const Launch& launch,
                    Kernel kernel) {
  auto objects = [&](const DeviceWorkList& given) {
    attend(arguments, given, launch, kernel);
    try {
      finish(launch);
    } catch (const tessera::Error&) {
      return true;
    }
    return false;
  };
  DeviceArray<uint32_t> flag(std::vector<uint32_t>{1});
  DeviceWorkList small = work;
  small.tile_capacity -= 1;
  DeviceWorkList flagged = work;
  flagged.overflow = flag.data();
  return (small.tile_capacity < 0 || work.band_stride > 0 || objects(small)) && objects(flagged) && !objects(work);
}

bool run_case(const Case& c, Kernel kernel) {
  std::mt19937_64 random(7);
  HostTensors tensors;
  for (const Sequence& s : c.sequences) {
    tensors.query_rows = std::max<int64_t>(tensors.query_rows, s.query_begin + s.query_rows);
    tensors.key_rows = std::max<int64_t>(tensors.key_rows, s.key_begin + s.key_rows);
  }
  auto elements = [&](int64_t rows, int heads) { return static_cast<size_t>(rows * heads * c.head_dim); };
  tensors.queries = check::random_elements(elements(tensors.query_rows, c.query_heads), 11, c.half_precision);
  tensors.keys = check::random_elements(elements(tensors.key_rows, c.kv_heads), 12, c.half_precision);
  tensors.values = check::random_elements(elements(tensors.key_rows, c.kv_heads), 13, c.half_precision);
  HostLists lists = make_lists(c, random);

  DeviceArray<uint16_t> queries(tensors.queries), keys(tensors.keys), values(tensors.values);
  DeviceArray<uint16_t> out(tensors.queries.size());
  DeviceArray<float> lse(static_cast<size_t>(tensors.query_rows * c.query_heads));
  DeviceArray<int32_t> tile_begin(lists.tile_begin), columns(lists.columns), count(lists.column_count),
      cut(lists.column_cut), bands(lists.bands), band_cut(lists.band_cut);
  DeviceArray<uint32_t> tiles(lists.tiles);
  ElementType type = c.half_precision ? ElementType::f16 : ElementType::bf16;
  AttentionArguments arguments;
  arguments.queries = contiguous_view(queries.data(), type, {tensors.query_rows, c.query_heads, c.head_dim});
  arguments.keys = contiguous_view(keys.data(), type, {tensors.key_rows, c.kv_heads, c.head_dim});
  arguments.values = contiguous_view(values.data(), type, {tensors.key_rows, c.kv_heads, c.head_dim});
  arguments.out = contiguous_view(out.data(), type, {tensors.query_rows, c.query_heads, c.head_dim});
  arguments.lse = contiguous_view(lse.data(), ElementType::f32, {tensors.query_rows, c.query_heads});
  arguments.sequences = c.sequences;
  DeviceWorkList work;
  work.key_tile = c.key_tile;
  work.list_heads = lists.list_heads;
  work.query_tiles = query_tiles(c.sequences);
  work.tile_begin = tile_begin.data();
  work.tiles = tiles.data();
  work.tile_capacity = static_cast<int64_t>(lists.tiles.size());
  work.column_stride = lists.column_stride;
  work.columns = columns.data();
  work.column_count = count.data();
  work.column_cut = cut.data();
  work.band_stride = lists.band_stride;
  work.bands = bands.data();
  work.band_cut = band_cut.data();
  bool dense = c.lists == Lists::dense;
  DeviceArray<unsigned char> scratch(dense ? workspace_bytes(arguments) : workspace_bytes(arguments, work));

  Expected expected = reference(c, lists, tensors);
  Outcome outcome;
  std::vector<uint16_t> first_out;
  std::vector<float> first_lse;
  bool agree = true;
  for (int repeat = 0; repeat < 2; ++repeat) {
    out.poison();
    lse.poison();
    scratch.poison();
    Launch launch{scratch.data(), scratch.size(), nullptr};
    if (dense) {
      attend_dense(arguments, launch, kernel);
    } else {
      attend(arguments, work, launch, kernel);
    }
    check::must(cudaDeviceSynchronize(), c.name.c_str());
    std::vector<uint16_t> now_out = out.host();
    std::vector<float> now_lse = lse.host();
    if (repeat == 0) {
      first_out = now_out;
      first_lse = now_lse;
      outcome = compare(c, expected, now_out, now_lse);
    } else {
      agree =
          first_out == now_out && std::memcmp(first_lse.data(), now_lse.data(), now_lse.size() * sizeof(float)) == 0;
    }
  }
  double bound = c.half_precision ? 1e-3 : 6e-3;
  bool good = outcome.out_error < bound && outcome.lse_error < 1e-3 && outcome.wrong_empty == 0 &&
              outcome.unwritten == 0 && agree;
  bool overflow_found = dense || finds_overflow(arguments, work, {scratch.data(), scratch.size(), nullptr}, kernel);
  if (!overflow_found) std::printf("# %s: finish() did not tell that lists overflowed\n", c.name.c_str());
  good = good && overflow_found;
  if (!good) print_first_rows(c, expected, first_out, first_lse);
  std::printf(
      "{\"case\": \"%s\", \"good\": %s, \"out_error\": %.3g, \"lse_error\": %.3g, \"wrong_empty\": %lld, "
      "\"unwritten\": %lld, "
      "\"repeats_agree\": %s}\n",
      c.name.c_str(), good ? "true" : "false", outcome.out_error, outcome.lse_error,
      static_cast<long long>(outcome.wrong_empty), static_cast<long long>(outcome.unwritten), agree ? "true" : "false");
  std::fflush(stdout);
  return good;
}

Sequence whole(int rows) { return {0, rows, 0, rows, 0}; }

std::vector<Case> cases_of(const std::string& rung) {
  std::vector<Case> cases;
  auto add = [&](Case c) { cases.push_back(std::move(c)); };
  if (rung == "tile") {
    add({.name = "one-key", .sequences = {{0, 1, 0, 1, 0}}});
    add({.name = "64x64", .sequences = {whole(64)}});
    add({.name = "128x128", .sequences = {whole(128)}});
  } else if (rung == "dense") {
    for (int n : {256, 257, 384, 511, 1000, 2048}) add({.name = "n" + std::to_string(n), .sequences = {whole(n)}});
  } else if (rung == "dims") {
    for (int d : {64, 96, 256}) {
      for (int n : {128, 700}) {
        add({.name = "d" + std::to_string(d) + "-n" + std::to_string(n), .head_dim = d, .sequences = {whole(n)}});
      }
    }
  } else if (rung == "half") {
    for (int d : {64, 96, 128, 256}) {
      add({.name = "f16-d" + std::to_string(d), .head_dim = d, .half_precision = true, .sequences = {whole(600)}});
    }
  } else if (rung == "groups") {
    for (int kv : {8, 4, 2, 1}) {
      add({.name = "8-over-" + std::to_string(kv), .query_heads = 8, .kv_heads = kv, .sequences = {whole(515)}});
    }
  } else if (rung == "varlen") {
    add({.name = "three",
         .query_heads = 2,
         .sequences = {{0, 130, 0, 130, 0}, {130, 1, 130, 77, 76}, {131, 400, 207, 640, 240}}});
    add({.name = "empty-sequence", .query_heads = 2, .sequences = {{0, 0, 0, 0, 0}, {0, 300, 0, 300, 0}}});
  } else if (rung == "offsets") {
    for (int first : {1, 63, 64, 129, 500}) {
      add({.name = "first" + std::to_string(first), .query_heads = 2, .sequences = {{0, 200, 0, 200 + first, first}}});
    }
    add({.name = "keys-end-early", .sequences = {{0, 300, 0, 150, 0}}});
    add({.name = "no-keys", .sequences = {{0, 100, 0, 0, 0}}});
  } else if (rung == "lists" || rung == "lists64") {
    int tile = rung == "lists" ? 128 : 64;
    add({.name = "full", .query_heads = 2, .sequences = {whole(900)}, .lists = Lists::full, .key_tile = tile});
    add({.name = "random",
         .query_heads = 4,
         .kv_heads = 2,
         .sequences = {whole(1500)},
         .lists = Lists::random,
         .key_tile = tile});
    add({.name = "per-group",
         .query_heads = 8,
         .kv_heads = 2,
         .sequences = {whole(1025)},
         .lists = Lists::random,
         .key_tile = tile,
         .lists_per_group = true});
    add({.name = "d64",
         .query_heads = 2,
         .head_dim = 64,
         .sequences = {whole(1100)},
         .lists = Lists::random,
         .key_tile = tile});
    add({.name = "d96",
         .query_heads = 2,
         .head_dim = 96,
         .sequences = {whole(1100)},
         .lists = Lists::random,
         .key_tile = tile});
    if (tile == 64)
      add({.name = "d256",
           .query_heads = 2,
           .head_dim = 256,
           .sequences = {whole(700)},
           .lists = Lists::random,
           .key_tile = tile});
  } else if (rung == "columns") {
    for (int tile : {128, 64}) {
      std::string suffix = "-" + std::to_string(tile);
      add({.name = "only" + suffix,
           .query_heads = 2,
           .sequences = {whole(700)},
           .lists = Lists::none,
           .key_tile = tile,
           .columns = 100});
      add({.name = "both" + suffix,
           .query_heads = 4,
           .kv_heads = 2,
           .sequences = {whole(1300)},
           .lists = Lists::random,
           .key_tile = tile,
           .columns = 300});
      add({.name = "varlen" + suffix,
           .query_heads = 2,
           .sequences = {{0, 200, 0, 260, 60}, {200, 333, 260, 333, 0}},
           .lists = Lists::random,
           .key_tile = tile,
           .columns = 90});
      add({.name = "all" + suffix,
           .query_heads = 2,
           .kv_heads = 1,
           .sequences = {whole(500)},
           .lists = Lists::random,
           .key_tile = tile,
           .lists_per_group = true,
           .columns = 500});
    }
  } else if (rung == "bands") {
    auto bands = [&](Case c) {
      c.lists = Lists::bands;
      c.key_tile = kBandTile;
      add(std::move(c));
    };
    bands({.name = "all", .query_heads = 2, .sequences = {whole(900)}, .density = 1});
    bands({.name = "some", .query_heads = 4, .kv_heads = 2, .sequences = {whole(1500)}});
    bands({.name = "per-group", .query_heads = 8, .kv_heads = 2, .sequences = {whole(1025)}, .lists_per_group = true});
    bands({.name = "columns", .query_heads = 2, .sequences = {whole(1300)}, .columns = 300});
    bands({.name = "d64-f16", .query_heads = 2, .head_dim = 64, .half_precision = true, .sequences = {whole(1100)}});
    bands({.name = "d96", .query_heads = 2, .head_dim = 96, .sequences = {whole(700)}, .columns = 90});
    bands({.name = "varlen",
           .query_heads = 2,
           .sequences = {{0, 200, 0, 260, 60}, {200, 333, 260, 333, 0}, {533, 70, 593, 90, 40}},
           .columns = 50});
    bands({.name = "none", .query_heads = 2, .sequences = {whole(300)}, .density = 0});
  } else if (rung == "split") {
    add({.name = "long-last",
         .query_heads = 2,
         .sequences = {whole(6000)},
         .lists = Lists::long_last,
         .key_tile = 128});
    add({.name = "long-last-64",
         .query_heads = 2,
         .sequences = {whole(4000)},
         .lists = Lists::long_last,
         .key_tile = 64,
         .columns = 200});
  } else if (rung == "empty") {
    add({.name = "all-empty", .query_heads = 2, .sequences = {whole(300)}, .lists = Lists::none});
    add({.name = "some-empty", .query_heads = 2, .sequences = {whole(900)}, .lists = Lists::random, .density = 0.1});
  }
  return cases;
}

}  // namespace

int main(int count, char** words) {
  std::string rung = count > 1 ? words[1] : "";
  Kernel kernel = count > 2 && std::string(words[2]) == "mma" ? Kernel::mma_sync : Kernel::automatic;
  std::vector<Case> cases = cases_of(rung);
  if (cases.empty()) {
    std::fprintf(stderr, "unknown rung '%s'; see the head of ladder_attention.cu\n", rung.c_str());
    return 2;
  }
  bool good = true;
  try {
    for (const Case& c : cases) good = run_case(c, kernel) && good;
  } catch (const tessera::Error& error) {
    std::printf("{\"error\": \"%s\"}\n", error.what());
    return 3;
  }
  return good ? 0 : 1;
}
