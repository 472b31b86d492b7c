// SnapKV (Li et al., "SnapKV: LLM Knows What You are Looking for Before Generation", arXiv 2404.14469), once, at the
// end of the first prefill:
//   votes[j]  = sum over the last w queries of softmax(q K^T / sqrt(d))[j], causal, for j < n - w
//   pooled[j] = average or maximum of votes over [j - k/2, j + k/2]
//   keep the C - w rows with the highest pooled votes (ties to the lower row) and the last w rows, in ascending order.
// Edges: votes outside [0, n - w) count as 0 and the average divides by k always, as in the authors' code.
// GQA: votes are averaged over the group before pooling; each KV head keeps rows of its own.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "kv/observed_attention.h"
#include "tessera/base/error.h"
#include "tessera/kv/policy.h"

namespace tessera::kv {
namespace {

class SnapKv final : public CachePolicy {
 public:
  explicit SnapKv(const SnapKvOptions& options) : options_(options) {}

  std::string describe() const override {
    return fmt::format("snapkv(capacity={}, window={}, pool={}, pooling={})", options_.capacity, options_.window,
                       options_.pool, options_.pooling == SnapKvOptions::Pooling::average ? "average" : "maximum");
  }

  int64_t observation_window() const override { return options_.window; }
  bool drops_rows() const override { return true; }

  // A head with at most `capacity` rows, and so every prompt of at most `window`, is left alone.
  void after_prefill(KeyValueCache& cache, const PrefillEnd& end) const override {
    const int kv_heads = cache.layout().kv_heads;
    int64_t most = 0;
    for (int head = 0; head < kv_heads; ++head) most = std::max(most, cache.rows(end.layer, head));
    if (most <= options_.capacity) return;

    const std::vector<std::vector<float>> votes =
        observed_attention(cache.view(end.layer), cache.layout().head_dim, end);
    ThreadPool& pool = end.pool != nullptr ? *end.pool : ThreadPool::shared();
    pool.parallel_for(0, kv_heads, 1, [&](int64_t begin, int64_t stop, int) {
      for (int64_t head = begin; head < stop; ++head) {
        const int64_t rows = cache.rows(end.layer, static_cast<int>(head));
        if (rows <= options_.capacity) continue;
        const auto prefix =
            std::span(votes[static_cast<size_t>(head)]).first(static_cast<size_t>(rows - options_.window));
        cache.keep_rows(end.layer, static_cast<int>(head), choose(pooled(prefix), rows));
      }
    });
  }

 private:
  std::vector<float> pooled(std::span<const float> votes) const {
    const int64_t count = std::ssize(votes);
    const int64_t reach = options_.pool / 2;
    std::vector<float> result(votes.size());
    for (int64_t j = 0; j < count; ++j) {
      const auto near =
          votes.subspan(static_cast<size_t>(std::max<int64_t>(0, j - reach)))
              .first(static_cast<size_t>(std::min(count - 1, j + reach) - std::max<int64_t>(0, j - reach) + 1));
      const float score = options_.pooling == SnapKvOptions::Pooling::average
                              ? std::accumulate(near.begin(), near.end(), 0.0F) / static_cast<float>(options_.pool)
                              : *std::max_element(near.begin(), near.end());
      result[static_cast<size_t>(j)] =
          std::isnan(score) ? 0.0F : score;  // keeps the order below strict on broken input
    }
    return result;
  }

  std::vector<int32_t> choose(const std::vector<float>& scores, int64_t rows) const {
    std::vector<int32_t> kept(scores.size());
    std::iota(kept.begin(), kept.end(), 0);
    const auto end = kept.begin() + (options_.capacity - options_.window);
    std::nth_element(kept.begin(), end, kept.end(), [&](int32_t a, int32_t b) {
      const float score_a = scores[static_cast<size_t>(a)];
      const float score_b = scores[static_cast<size_t>(b)];
      return score_a != score_b ? score_a > score_b : a < b;
    });
    kept.erase(end, kept.end());
    std::sort(kept.begin(), kept.end());
    for (int64_t row = rows - options_.window; row < rows; ++row) kept.push_back(static_cast<int32_t>(row));
    return kept;
  }

  SnapKvOptions options_;
};

}  // namespace

std::unique_ptr<CachePolicy> make_snapkv(const SnapKvOptions& options) {
  if (options.window < 1 || options.capacity <= options.window) {
    throw Error(ErrorCode::invalid_argument, "snapkv: expected window >= 1 and capacity > window, found {} and {}",
                options.window, options.capacity);
  }
  if (options.pool < 1 || options.pool % 2 == 0) {
    throw Error(ErrorCode::invalid_argument, "snapkv: expected an odd pool of at least 1, found {}", options.pool);
  }
  return std::make_unique<SnapKv>(options);
}

}  // namespace tessera::kv
