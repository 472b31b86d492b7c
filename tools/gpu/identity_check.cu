// Lists chosen on the device against those that the host chooses from the same rows, entry by entry: `exact` line
// methods and the block methods, several sequences, all head_dims, both formats.
//
//   identity_check            # prints one line per case; exit status 1 when a list differs. Seeds are fixed.
#include <cmath>
#include <cstdio>
#include <string>

#include "gpu/support.h"
#include "tessera/attention/cuda_select.h"

namespace {

using namespace tessera::attention::cuda;
using check::DeviceArray;
using check::must;

struct Shape {
  int32_t heads, kv_heads, head_dim;
  bool half_precision;
  std::vector<Sequence> sequences;
};

uint16_t to_bits(float x, bool half_precision) {
  return half_precision ? __half_as_ushort(__float2half(x)) : __bfloat16_as_ushort(__float2bfloat16(x));
}

// Sinks, columns that all queries like, a preference for near rows, and noise.
std::vector<uint16_t> make_rows(int64_t rows, int64_t heads, const Shape& shape, bool keys, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> bits;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < heads * shape.head_dim; ++i) {
      const int64_t c = i % shape.head_dim;
      float x = normal(random);
      if (c == 0) x = keys ? (row % 250 == 77 || row < 3 ? 60.0f : 0) : 1;
      if (c >= 1 && c < 17) {
        const double angle = static_cast<double>(row) * 0.05 * std::pow(0.55, static_cast<double>((c - 1) / 2));
        x = 4 * static_cast<float>(c % 2 == 1 ? std::cos(angle) : std::sin(angle));
      }
      bits.push_back(to_bits(x, shape.half_precision));
    }
  }
  return bits;
}

// The arrays of the lists, as far as they are defined.
struct Arrays {
  std::vector<int32_t> begin, columns, counts, cuts, bands, band_cuts;
  std::vector<uint32_t> tiles;
  std::vector<float> report;
  uint32_t overflow = 0;
  bool operator==(const Arrays&) const = default;
};

template <typename T>
std::vector<T> fetch(const T* from, int64_t count, bool device) {
  std::vector<T> values(static_cast<size_t>(from != nullptr ? count : 0));
  if (values.empty()) return values;
  must(cudaMemcpy(values.data(), from, values.size() * sizeof(T),
                  device ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost),
       "copy");
  return values;
}

// First query tile of a sequence, and the one after its last.
using TileRange = std::pair<int32_t, int32_t>;

std::vector<TileRange> tile_ranges(const std::vector<Sequence>& sequences) {
  std::vector<TileRange> ranges;
  int32_t tile = 0;
  for (const Sequence& s : sequences) {
    const int32_t end = tile + (s.query_rows + kQueryTile - 1) / kQueryTile;
    ranges.emplace_back(tile, end);
    tile = end;
  }
  return ranges;
}

// Entries of a band that some query tile uses: those that are defined for sure.
int32_t longest_cut(const DeviceWorkList& work, const TileRange& tiles, int64_t head,
                    const std::vector<int32_t>& cuts) {
  int32_t longest = 0;
  for (int32_t t = tiles.first; t < tiles.second; ++t) {
    longest = std::max(longest, cuts[static_cast<size_t>(head * work.query_tiles + t)]);
  }
  return longest;
}

Arrays arrays_of(const Selected& selected, const std::vector<TileRange>& sequence_tiles, bool device) {
  const auto sequences = static_cast<int64_t>(sequence_tiles.size());
  const DeviceWorkList& work = selected.work;
  const int64_t lists = int64_t{work.list_heads} * work.query_tiles;
  Arrays arrays;
  arrays.begin = fetch(work.tile_begin, lists + 1, device);
  arrays.tiles = fetch(work.tiles, arrays.begin.empty() ? 0 : arrays.begin.back(), device);
  arrays.band_cuts = fetch(work.band_cut, lists, device);
  for (int64_t owner = 0; work.bands != nullptr && owner < sequences * work.list_heads; ++owner) {
    const int32_t used = longest_cut(work, sequence_tiles[static_cast<size_t>(owner / work.list_heads)],
                                     owner % work.list_heads, arrays.band_cuts);
    const std::vector<int32_t> own = fetch(work.bands + owner * work.band_stride, used, device);
    arrays.bands.insert(arrays.bands.end(), own.begin(), own.end());
  }
  arrays.counts = fetch(work.column_count, sequences * work.list_heads, device);
  arrays.cuts = fetch(work.column_cut, lists, device);
  for (size_t owner = 0; owner < arrays.counts.size(); ++owner) {
    const std::vector<int32_t> own =
        fetch(work.columns + static_cast<int64_t>(owner) * work.column_stride, arrays.counts[owner], device);
    arrays.columns.insert(arrays.columns.end(), own.begin(), own.end());
  }
  arrays.report = fetch(selected.report, sequences * work.list_heads * 2, device);
  arrays.overflow = fetch(selected.overflow, 1, device)[0];
  return arrays;
}

bool run(const Shape& shape, const SelectOptions& options, const std::string& name) {
  int64_t query_rows = 0;
  int64_t key_rows = 0;
  for (const Sequence& s : shape.sequences) {
    query_rows = std::max<int64_t>(query_rows, s.query_begin + s.query_rows);
    key_rows = std::max<int64_t>(key_rows, s.key_begin + s.key_rows);
  }
  std::vector<uint16_t> queries = make_rows(query_rows, shape.heads, shape, false, 1);
  std::vector<uint16_t> keys = make_rows(key_rows, shape.kv_heads, shape, true, 2);
  std::vector<float> lse(static_cast<size_t>(query_rows * shape.heads));
  const ElementType type = shape.half_precision ? ElementType::f16 : ElementType::bf16;
  const auto arguments_on = [&](void* q, void* k, void* l) {
    AttentionArguments arguments;
    arguments.queries = arguments.out = contiguous_view(q, type, {query_rows, shape.heads, shape.head_dim});
    arguments.keys = arguments.values = contiguous_view(k, type, {key_rows, shape.kv_heads, shape.head_dim});
    arguments.lse = contiguous_view(l, ElementType::f32, {query_rows, shape.heads});
    arguments.sequences = shape.sequences;
    return arguments;
  };
  const AttentionArguments on_host = arguments_on(queries.data(), keys.data(), lse.data());
  std::vector<uint64_t> memory(host_list_bytes(on_host, options) / 8 + 1);
  const std::vector<TileRange> sequences = tile_ranges(shape.sequences);
  const Arrays wanted = arrays_of(select_on_host(on_host, options, {.data = memory.data(), .bytes = memory.size() * 8}),
                                  sequences, false);

  DeviceArray<uint16_t> q(queries);
  DeviceArray<uint16_t> k(keys);
  DeviceArray<float> l(lse);
  const AttentionArguments on_device = arguments_on(q.data(), k.data(), l.data());
  DeviceArray<unsigned char> scratch(list_bytes(on_device, options));
  scratch.poison();
  const Selected selected = select(on_device, options, {.data = scratch.data(), .bytes = scratch.size()});
  must(cudaDeviceSynchronize(), "choosing");
  const Arrays found = arrays_of(selected, sequences, true);
  const bool same = found == wanted;
  std::printf("%s %s: %zu entries, %zu columns%s\n", same ? "ok  " : "FAIL", name.c_str(),
              found.tiles.size() + found.bands.size(), found.columns.size(), same ? "" : ", differ from the host's");
  if (!same) {
    std::printf(
        "     bands %d %d begin %d tiles %d columns %d counts %d cuts %d report %d overflow %u %u; host: %zu entries, "
        "%zu "
        "columns\n",
        found.bands == wanted.bands, found.band_cuts == wanted.band_cuts, found.begin == wanted.begin,
        found.tiles == wanted.tiles, found.columns == wanted.columns, found.counts == wanted.counts,
        found.cuts == wanted.cuts, found.report == wanted.report, found.overflow, wanted.overflow, wanted.tiles.size(),
        wanted.columns.size());
  }
  return same;
}

}  // namespace

int main() {
  const std::vector<Sequence> one = {{0, 2300, 0, 2300, 0}};
  const std::vector<Sequence> several = {
      {0, 300, 0, 700, 400}, {300, 0, 700, 9, 0}, {300, 2500, 709, 2500, 0}, {2800, 5, 3209, 70, 65}};
  const std::vector<std::pair<Method, const char*>> methods = {
      {Method::vertical_slash, "vertical_slash"}, {Method::recall, "recall"},       {Method::tiles, "tiles"},
      {Method::block_mean, "block_mean"},         {Method::block_lse, "block_lse"}, {Method::automatic, "automatic"}};
  bool good = true;
  for (const auto& [method, name] : methods) {
    SelectOptions options{.method = method, .vertical = 60, .slash = 90, .sinks = 20, .local = 30, .window = 200};
    options.recall = 0.85F;
    options.threshold = 0.2F;
    options.crossover = 2000;
    options.exact = true;
    good = run({4, 2, 128, false, one}, options, std::string(name) + " 2300 rows d128") && good;
    good = run({4, 1, 64, false, several}, options, std::string(name) + " four sequences d64") && good;
    good = run({2, 2, 128, true, several}, options, std::string(name) + " four sequences d128 f16") && good;
    good = run({2, 1, 96, false, several}, options, std::string(name) + " four sequences d96") && good;
    good = run({2, 1, 256, false, one}, options, std::string(name) + " 2300 rows d256") && good;
    if (method == Method::vertical_slash) {
      options.bands = true;
      good = run({4, 2, 128, false, one}, options, "vertical_slash in bands, 2300 rows d128") && good;
      options.slash = 1500;
      good = run({4, 2, 128, true, several}, options, "vertical_slash in bands, four sequences d128 f16") && good;
      options.bands = false;
    }
    if (method == Method::block_mean) {
      options.top_k = 3;
      good = run({4, 2, 128, false, several}, options, "block_mean top 3, four sequences d128") && good;
    }
  }
  return good ? 0 : 1;
}
