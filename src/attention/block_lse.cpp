// Block-sparse by log-sum-exp: key tiles whose scores between means of 16 rows come near the best tile's.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "attention/selector_support.h"
#include "tessera/attention/selectors.h"
#include "tessera/base/error.h"

namespace tessera::attention {
namespace {

constexpr int64_t kMeanRows = 16;
constexpr int64_t kParts = kTileRows / kMeanRows;  // means per tile

// [parts][head_dim] means of one tile's rows; rows(r) points at row r.
template <typename RowAt>
void add_means(int64_t rows, int64_t head_dim, const RowAt& row_at, std::vector<float>& means) {
  for (int64_t first = 0; first < rows; first += kMeanRows) {
    const int64_t count = std::min(kMeanRows, rows - first);
    const size_t at = means.size();
    means.resize(at + static_cast<size_t>(head_dim));
    for (int64_t r = first; r < first + count; ++r) {
      for (int64_t c = 0; c < head_dim; ++c) means[at + static_cast<size_t>(c)] += row_at(r, c);
    }
    for (int64_t c = 0; c < head_dim; ++c) means[at + static_cast<size_t>(c)] /= static_cast<float>(count);
  }
}

class BlockLse : public Selector {
 public:
  explicit BlockLse(const BlockLseOptions& options) : options_(options) {
    if (!(options.threshold > 0 && options.threshold <= 1) || options.sinks < 0 || options.window < 1 ||
        options.last < 0) {
      throw Error(ErrorCode::invalid_argument,
                  "block-lse: expected threshold in (0, 1], sinks >= 0, window >= 1 and last >= 0, found threshold={}, "
                  "sinks={}, window={}, last={}",
                  options.threshold, options.sinks, options.window, options.last);
    }
  }

  std::string describe() const override {
    return fmt::format("block-lse(threshold={}, sinks={}, window={}, last={})", options_.threshold, options_.sinks,
                       options_.window, options_.last);
  }

  WorkList select(const AttentionInput& input, const SelectContext& context) const override {
    WorkList work = start_work_list(input);
    const int64_t head_dim = input.queries.shape()[2];
    const auto group = static_cast<int64_t>(work.heads.size() / input.heads.size());
    std::vector<std::vector<float>> key_means(input.heads.size());
    for (size_t h = 0; h < key_means.size(); ++h) key_means[h] = means_of_keys(input.heads[h], head_dim);
    pool_of(context).parallel_for(0, static_cast<int64_t>(work.heads.size()), 1, [&](int64_t h, int64_t, int) {
      const auto kv_head = static_cast<size_t>(h / group);
      const HeadGeometry geometry(input, input.heads[kv_head]);
      TileWriter writer(work.heads[static_cast<size_t>(h)]);
      for (int64_t tile = 0; tile < geometry.query_tiles(); ++tile) {
        const std::vector<float> scores = score_tiles(input, h, key_means[kv_head], geometry, tile);
        add_tiles(scores, geometry, context.rows_after, tile, writer);
        writer.end_query_tile();
      }
    });
    return work;
  }

 private:
  static std::vector<float> means_of_keys(const HeadKeys& head, int64_t head_dim) {
    std::vector<float> means;
    Workspace& workspace = Workspace::of_this_thread();
    for (size_t tile = 0; tile < head.tiles.size(); ++tile) {
      const TileKeys keys = workspace.expand_keys(head.tiles[tile], head_dim);
      const int64_t rows = std::min<int64_t>(kTileRows, head.rows - static_cast<int64_t>(tile) * kTileRows);
      add_means(
          rows, head_dim, [&](int64_t r, int64_t c) { return keys.keys[c * kTileRows + r]; }, means);
    }
    return means;
  }

  // [visible tiles] log-sum-exp over the pairs of means of which causality allows one row pair.
  static std::vector<float> score_tiles(const AttentionInput& input, int64_t head, const std::vector<float>& keys,
                                        const HeadGeometry& geometry, int64_t tile) {
    const int64_t heads = input.queries.shape()[1];
    const int64_t head_dim = input.queries.shape()[2];
    const float scale = input.scale > 0 ? input.scale : 1.0F / std::sqrt(static_cast<float>(head_dim));
    const int64_t rows = std::min<int64_t>(kTileRows, geometry.query_rows() - tile * kTileRows);
    const float* queries = input.queries.data<float>() + (tile * kTileRows * heads + head) * head_dim;
    std::vector<float> means;
    add_means(
        rows, head_dim, [&](int64_t r, int64_t c) { return queries[r * heads * head_dim + c]; }, means);
    std::vector<float> scores;
    const auto size = static_cast<size_t>(head_dim);
    for (int64_t key_tile = 0; key_tile < geometry.visible_tiles(tile); ++key_tile) {
      std::vector<float> pairs;
      for (size_t q = 0; q < means.size() / size; ++q) {
        const int64_t last_row =
            std::min(tile * kTileRows + (static_cast<int64_t>(q) + 1) * kMeanRows, geometry.query_rows()) - 1;
        const int64_t own = geometry.limits[static_cast<size_t>(last_row)] - 1;
        for (int64_t part = key_tile * kParts; part < (key_tile + 1) * kParts && part * kMeanRows <= own; ++part) {
          float sum = 0;
          for (size_t c = 0; c < size; ++c) sum += means[q * size + c] * keys[static_cast<size_t>(part) * size + c];
          pairs.push_back(sum * scale);
        }
      }
      const float top = *std::max_element(pairs.begin(), pairs.end());
      float sum = 0;
      for (const float score : pairs) sum += std::exp(score - top);
      scores.push_back(top + std::log(sum));
    }
    return scores;
  }

  void add_tiles(const std::vector<float>& scores, const HeadGeometry& geometry, int64_t rows_after, int64_t tile,
                 TileWriter& writer) const {
    if (scores.empty()) return;
    const float least = *std::max_element(scores.begin(), scores.end()) + std::log(options_.threshold);
    const int64_t end = std::min((tile + 1) * kTileRows, geometry.query_rows());
    const bool dense = options_.last > 0 && end > geometry.query_rows() + rows_after - options_.last;
    const int64_t window = std::max<int64_t>(0, geometry.first_own(tile) - options_.window + 1) / kTileRows;
    for (int64_t key_tile = 0; key_tile < static_cast<int64_t>(scores.size()); ++key_tile) {
      const bool forced = dense || key_tile * kTileRows < options_.sinks || key_tile >= window;
      if (forced || scores[static_cast<size_t>(key_tile)] >= least) writer.add(key_tile, key_tile);
    }
  }

  BlockLseOptions options_;
};

}  // namespace

std::unique_ptr<Selector> make_block_lse(const BlockLseOptions& options) { return std::make_unique<BlockLse>(options); }

}  // namespace tessera::attention
