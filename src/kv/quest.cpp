// Quest (Tang et al., "Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference", arXiv 2406.10774): a
// decode step reads, per KV head, the pages of `page` rows whose keys may give the largest product with the query,
// judged by sum_c max(q_c min_c, q_c max_c) over the page's per-channel minimum and maximum. Read: budget / page pages,
// at least 3, among them always the pages that hold the query's own rows; ties to the lower page. The first
// `dense_layers` layers, and heads with no more rows than that, are dense. GQA: one choice per KV head, by the maximum
// of the bound over the group (and over the query rows, when there are several).
#include <algorithm>
#include <numeric>
#include <optional>

#include "kv/packed_rows.h"
#include "kv/page_bounds.h"
#include "tessera/base/error.h"
#include "tessera/kv/policy.h"

namespace tessera::kv {
namespace {

using attention::AttentionInput;
using attention::HeadWork;
using attention::kTileRows;
using attention::WorkList;

constexpr int64_t kLeastPages = 3;
constexpr int64_t kPagesPerTask = 1024;

// Rows at or before a position.
int32_t visible_rows(const attention::HeadKeys& head, int64_t position) {
  if (head.positions.empty()) return static_cast<int32_t>(std::min(head.rows, position + 1));
  return static_cast<int32_t>(std::upper_bound(head.positions.begin(), head.positions.end(), position) -
                              head.positions.begin());
}

HeadWork dense_work() {
  HeadWork work;
  work.dense = true;
  return work;
}

class Quest final : public Loader {
 public:
  explicit Quest(const QuestOptions& options) : options_(options) {}

  std::string describe() const override {
    return fmt::format("quest(budget={}, page={}, dense_layers={})", options_.budget, options_.page,
                       options_.dense_layers);
  }

  WorkList select(int layer, const AttentionInput& input, const LayerView& view,
                  const attention::AttentionOptions& options) override {
    attention::check(input);
    const int64_t kv_heads = std::ssize(input.heads);
    if (layer < 0 || std::ssize(view.tables) != kv_heads) {
      throw Error(ErrorCode::invalid_argument, "quest: expected layer >= 0 and a view of {} KV heads, found {} and {}",
                  kv_heads, layer, view.tables.size());
    }
    WorkList work;
    work.query_rows = input.queries.shape()[0];
    work.first_position = input.first_position;
    const int64_t group = input.queries.shape()[1] / kv_heads;
    for (int64_t head = 0; head < kv_heads; ++head) {
      work.key_rows = std::max(work.key_rows, input.heads[static_cast<size_t>(head)].rows);
      const HeadWork one = layer < options_.dense_layers ? dense_work() : head_work(layer, head, input, view, options);
      work.heads.insert(work.heads.end(), static_cast<size_t>(group), one);
      for (int64_t tile = 0; tile < work.query_tiles(); ++tile) {
        const int64_t last_row = std::min((tile + 1) * kTileRows, work.query_rows) - 1;
        work.visible.push_back(visible_rows(input.heads[static_cast<size_t>(head)], input.first_position + last_row));
      }
    }
    return work;
  }

  // A group shares its choice, so its pages are copied side by side once and read once for all its query heads.
  attention::AttentionPartial attend(int layer, const AttentionInput& input, const LayerView& view,
                                     const attention::AttentionOptions& options) override {
    const WorkList work = select(layer, input, view, options);
    const int64_t kv_heads = std::ssize(input.heads);
    const size_t group = work.heads.size() / input.heads.size();
    std::vector<attention::HeadKeys> heads(input.heads.begin(), input.heads.end());
    std::vector<std::optional<PackedRows>> packed(heads.size());
    ThreadPool& pool = options.pool != nullptr ? *options.pool : ThreadPool::shared();
    pool.parallel_for(0, kv_heads, 1, [&](int64_t begin, int64_t end, int) {
      for (auto head = static_cast<size_t>(begin); head < static_cast<size_t>(end); ++head) {
        const HeadWork& chosen = work.heads[head * group];
        if (chosen.dense) continue;
        packed[head].emplace(heads[head], input.queries.shape()[2], chosen.columns);
        heads[head] = packed[head]->keys();
      }
    });
    AttentionInput reduced = input;
    reduced.heads = heads;
    return attention::attend_dense(reduced, options);
  }

  int64_t bytes() const override {
    int64_t total = 0;
    for (const auto& heads : bounds_) {
      for (const HeadBounds& head : heads) total += head.bytes();
    }
    return total;
  }

  std::unique_ptr<Loader> fork() const override { return std::make_unique<Quest>(*this); }

 private:
  HeadWork head_work(int layer, int64_t head, const AttentionInput& input, const LayerView& view,
                     const attention::AttentionOptions& options) {
    const HeadTable& table = *view.tables[static_cast<size_t>(head)];
    const int64_t pages = (table.rows + options_.page - 1) / options_.page;
    const int64_t budget = std::max(kLeastPages, options_.budget / options_.page);
    if (pages <= budget) return dense_work();

    HeadBounds& bounds = bounds_of(layer, head);
    bounds.update(table, input.queries.shape()[2], options_.page);
    const std::vector<float> scores = score(bounds, pages, queries_of(input, head), options.pool);

    const attention::HeadKeys& keys = input.heads[static_cast<size_t>(head)];
    int64_t own = table.rows - 1;  // first row of the query block itself
    while (own > 0 && keys.position(own - 1) >= input.first_position) --own;
    const int64_t forced = pages - own / options_.page;
    const std::vector<int64_t> chosen = best_pages(scores, std::max(budget, forced), forced);

    HeadWork work;
    work.tile_begin.assign(static_cast<size_t>((input.queries.shape()[0] + kTileRows - 1) / kTileRows + 1), 0);
    for (const int64_t page : chosen) {
      const int64_t end = std::min((page + 1) * options_.page, table.rows);
      for (int64_t row = page * options_.page; row < end; ++row) work.columns.push_back(static_cast<int32_t>(row));
    }
    work.column_end.assign(work.tile_begin.size() - 1, static_cast<int32_t>(work.columns.size()));
    return work;
  }

  HeadBounds& bounds_of(int layer, int64_t head) {
    if (std::ssize(bounds_) <= layer) bounds_.resize(static_cast<size_t>(layer) + 1);
    std::vector<HeadBounds>& heads = bounds_[static_cast<size_t>(layer)];
    if (std::ssize(heads) <= head) heads.resize(static_cast<size_t>(head) + 1);
    return heads[static_cast<size_t>(head)];
  }

  // The queries of the KV head's group, query_rows * group of them.
  static SplitQueries queries_of(const AttentionInput& input, int64_t head) {
    const Shape& shape = input.queries.shape();
    const int64_t width = shape[1] / std::ssize(input.heads) * shape[2];  // floats of a group
    std::vector<float> queries;
    queries.reserve(static_cast<size_t>(shape[0] * width));
    for (int64_t row = 0; row < shape[0]; ++row) {
      const float* from = input.queries.data<float>() + row * shape[1] * shape[2] + head * width;
      queries.insert(queries.end(), from, from + width);
    }
    return {queries.data(), std::ssize(queries) / shape[2], shape[2]};
  }

  static std::vector<float> score(const HeadBounds& bounds, int64_t pages, const SplitQueries& queries,
                                  ThreadPool* pool) {
    std::vector<float> scores(static_cast<size_t>(pages));
    const auto score_some = [&](int64_t begin, int64_t end, int) {
      for (int64_t page = begin; page < end; ++page) scores[static_cast<size_t>(page)] = bounds.bound(page, queries);
    };
    (pool != nullptr ? *pool : ThreadPool::shared()).parallel_for(0, pages, kPagesPerTask, score_some);
    return scores;
  }

  // The `count` best pages in ascending order, the last `forced` ones among them.
  static std::vector<int64_t> best_pages(const std::vector<float>& scores, int64_t count, int64_t forced) {
    std::vector<int64_t> pages(scores.size());
    std::iota(pages.begin(), pages.end(), 0);
    const auto own = pages.end() - forced;
    const auto end = pages.begin() + (count - forced);
    std::nth_element(pages.begin(), end, own, [&](int64_t a, int64_t b) {
      const float score_a = scores[static_cast<size_t>(a)];
      const float score_b = scores[static_cast<size_t>(b)];
      return score_a != score_b ? score_a > score_b : a < b;
    });
    pages.erase(end, own);
    std::sort(pages.begin(), pages.end());
    return pages;
  }

  QuestOptions options_;
  std::vector<std::vector<HeadBounds>> bounds_;  // [layer][kv head], grown when first seen
};

}  // namespace

std::unique_ptr<Loader> make_quest(const QuestOptions& options) {
  if (options.budget < 1 || options.dense_layers < 0) {
    throw Error(ErrorCode::invalid_argument, "quest: expected budget >= 1 and dense_layers >= 0, found {} and {}",
                options.budget, options.dense_layers);
  }
  if (options.page < 1 || kTileRows % options.page != 0) {
    throw Error(ErrorCode::invalid_argument, "quest: expected a page of 1, 2, 4, 8, 16, 32 or 64 rows, found {}",
                options.page);
  }
  return std::make_unique<Quest>(options);
}

}  // namespace tessera::kv
