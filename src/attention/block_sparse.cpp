// Block-sparse: key tiles whose mean key agrees most with the mean query of a query tile (MInference).
#include <fmt/format.h>

#include <algorithm>

#include "attention/selector_support.h"
#include "tessera/attention/selectors.h"
#include "tessera/base/error.h"

namespace tessera::attention {
namespace {

// [key tiles][head_dim], means over the valid rows of each tile.
std::vector<float> pooled_keys(const HeadKeys& head, int64_t head_dim, ThreadPool& pool) {
  const int64_t tiles = (head.rows + kTileRows - 1) / kTileRows;
  std::vector<float> means(static_cast<size_t>(tiles * head_dim));
  pool.parallel_for(0, tiles, 16, [&](int64_t begin, int64_t end, int) {
    Workspace& workspace = Workspace::of_this_thread();
    for (int64_t tile = begin; tile < end; ++tile) {
      const TileKeys keys = workspace.expand_keys(head.tiles[static_cast<size_t>(tile)], head_dim);
      const int64_t rows = std::min<int64_t>(kTileRows, head.rows - tile * kTileRows);
      for (int64_t c = 0; c < head_dim; ++c) {
        float sum = 0;
        for (int64_t r = 0; r < rows; ++r) sum += keys.keys[c * kTileRows + r];
        means[static_cast<size_t>(tile * head_dim + c)] = sum / static_cast<float>(rows);
      }
    }
  });
  return means;
}

class BlockSparse : public Selector {
 public:
  explicit BlockSparse(const BlockSparseOptions& options) : options_(options) {
    if (options.top_k < 1) {
      throw Error(ErrorCode::invalid_argument, "block-sparse: expected top_k >= 1, found {}", options.top_k);
    }
  }

  std::string describe() const override { return fmt::format("block-sparse(top_k={})", options_.top_k); }

  WorkList select(const AttentionInput& input, const SelectContext& context) const override {
    WorkList work = start_work_list(input);
    const int64_t head_dim = input.queries.shape()[2];
    const auto group = static_cast<int64_t>(work.heads.size() / input.heads.size());
    std::vector<std::vector<float>> means;  // [kv_heads][key tiles * head_dim]
    for (const HeadKeys& head : input.heads) means.push_back(pooled_keys(head, head_dim, pool_of(context)));
    pool_of(context).parallel_for(0, static_cast<int64_t>(work.heads.size()), 1, [&](int64_t h, int64_t, int) {
      const auto kv_head = static_cast<size_t>(h / group);
      const HeadGeometry geometry(input, input.heads[kv_head]);
      HeadWork& head = work.heads[static_cast<size_t>(h)];
      head.tile_begin.assign(1, 0);
      for (int64_t tile = 0; tile < geometry.query_tiles(); ++tile) {
        const std::vector<float> query = pooled_query(input, h, tile);
        const std::vector<int32_t> chosen = choose_tiles(query, means[kv_head], geometry, tile);
        head.tiles.insert(head.tiles.end(), chosen.begin(), chosen.end());
        head.tile_begin.push_back(static_cast<int64_t>(head.tiles.size()));
      }
    });
    return work;
  }

 private:
  // [head_dim], the sum over the rows of a query tile (a mean up to a positive factor, which no order depends on).
  static std::vector<float> pooled_query(const AttentionInput& input, int64_t head, int64_t tile) {
    const int64_t heads = input.queries.shape()[1];
    const int64_t head_dim = input.queries.shape()[2];
    const int64_t last_row = std::min((tile + 1) * kTileRows, input.queries.shape()[0]);
    std::vector<float> sum(static_cast<size_t>(head_dim));
    for (int64_t row = tile * kTileRows; row < last_row; ++row) {
      const float* query = input.queries.data<float>() + (row * heads + head) * head_dim;
      for (size_t c = 0; c < sum.size(); ++c) sum[c] += query[c];
    }
    return sum;
  }

  std::vector<int32_t> choose_tiles(const std::vector<float>& query, const std::vector<float>& means,
                                    const HeadGeometry& geometry, int64_t tile) const {
    const int64_t visible = geometry.visible_tiles(tile);
    if (visible == 0) return {};
    std::vector<float> scores(static_cast<size_t>(visible));
    for (size_t key_tile = 0; key_tile < scores.size(); ++key_tile) {
      const float* mean = means.data() + key_tile * query.size();
      for (size_t c = 0; c < query.size(); ++c) scores[key_tile] += query[c] * mean[c];
    }
    std::vector<int32_t> chosen = largest_indices(scores, options_.top_k);
    const int64_t first_diagonal = std::max<int64_t>(0, geometry.first_own(tile)) / kTileRows;
    chosen.push_back(0);
    for (int64_t diagonal = first_diagonal; diagonal < visible; ++diagonal)
      chosen.push_back(static_cast<int32_t>(diagonal));
    std::sort(chosen.begin(), chosen.end());
    chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
    return chosen;
  }

  BlockSparseOptions options_;
};

}  // namespace

std::unique_ptr<Selector> make_block_sparse(const BlockSparseOptions& options) {
  return std::make_unique<BlockSparse>(options);
}

}  // namespace tessera::attention
