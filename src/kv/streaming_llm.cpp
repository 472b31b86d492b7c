// StreamingLLM: sinks and a window (Xiao et al., "Efficient Streaming Language Models with Attention Sinks",
// arXiv 2309.17453), in the one-off form of SCBench and kvpress: true positions, once, at the end of the first prefill.
// GQA: nothing to decide, the rows kept depend on no query.
#include <numeric>

#include "tessera/base/error.h"
#include "tessera/kv/policy.h"

namespace tessera::kv {
namespace {

class StreamingLlm final : public CachePolicy {
 public:
  explicit StreamingLlm(const StreamingLlmOptions& options) : options_(options) {}

  std::string describe() const override {
    return fmt::format("streaming-llm(sinks={}, window={})", options_.sinks, options_.window);
  }

  bool drops_rows() const override { return true; }

  void after_prefill(KeyValueCache& cache, const PrefillEnd& end) const override {
    for (int head = 0; head < cache.layout().kv_heads; ++head) {
      const int64_t rows = cache.rows(end.layer, head);
      if (rows <= options_.sinks + options_.window) continue;
      std::vector<int32_t> kept(static_cast<size_t>(options_.sinks + options_.window));
      const auto window = kept.begin() + options_.sinks;
      std::iota(kept.begin(), window, 0);
      std::iota(window, kept.end(), static_cast<int32_t>(rows - options_.window));
      cache.keep_rows(end.layer, head, kept);
    }
  }

 private:
  StreamingLlmOptions options_;
};

}  // namespace

std::unique_ptr<CachePolicy> make_streaming_llm(const StreamingLlmOptions& options) {
  if (options.sinks < 0 || options.window < 1) {
    throw Error(ErrorCode::invalid_argument, "streaming-llm: expected sinks >= 0 and window >= 1, found {} and {}",
                options.sinks, options.window);
  }
  return std::make_unique<StreamingLlm>(options);
}

}  // namespace tessera::kv
