// KIVI (Liu et al., "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", arXiv 2402.02750): keys per
// channel in groups of 32 rows, values per row in groups of 32 channels, x = zero + scale * code. Keys are quantised
// after rotation. A page is quantised when all its rows are older than the last `residual`; keys and values of a page
// change together. The prefill itself runs at full precision. GQA: nothing to decide, KV heads are quantised one by
// one.
#include "tessera/base/error.h"
#include "tessera/kv/policy.h"

namespace tessera::kv {
namespace {

class Kivi final : public CachePolicy {
 public:
  explicit Kivi(const KiviOptions& options) : options_(options) {}

  std::string describe() const override {
    return fmt::format("kivi(bits={}, group={}, residual={})", options_.bits, options_.group, options_.residual);
  }

  void after_prefill(KeyValueCache& cache, const PrefillEnd& end) const override {
    ThreadPool& pool = end.pool != nullptr ? *end.pool : ThreadPool::shared();
    pool.parallel_for(0, cache.layout().kv_heads, 1, [&](int64_t begin, int64_t stop, int) {
      for (int64_t head = begin; head < stop; ++head) quantise(cache, end.layer, static_cast<int>(head));
    });
  }

  void after_append(KeyValueCache& cache, int layer) const override {
    for (int head = 0; head < cache.layout().kv_heads; ++head) quantise(cache, layer, head);
  }

 private:
  // Quantised pages come first, so the search for the pages that became old enough starts at the end.
  void quantise(KeyValueCache& cache, int layer, int head) const {
    const std::span<const PageRef> pages = cache.pages(layer, head);
    const int64_t last = (cache.rows(layer, head) - options_.residual) / attention::kTileRows;
    int64_t first = last;
    while (first > 0 && attention::is_appendable(pages[static_cast<size_t>(first - 1)].format())) --first;
    const auto format = options_.bits == 2 ? attention::TileFormat::kivi2 : attention::TileFormat::kivi4;
    if (first < last) cache.encode_pages(layer, head, first, last, format);
  }

  KiviOptions options_;
};

}  // namespace

std::unique_ptr<CachePolicy> make_kivi(const KiviOptions& options) {
  if (options.bits != 2 && options.bits != 4) {
    throw Error(ErrorCode::invalid_argument, "kivi: expected bits 2 or 4, found {}", options.bits);
  }
  if (options.group != attention::kQuantGroup) {
    throw Error(ErrorCode::invalid_argument, "kivi: this build quantises in groups of {}, found group {}",
                attention::kQuantGroup, options.group);
  }
  if (options.residual < 0) {
    throw Error(ErrorCode::invalid_argument, "kivi: expected residual >= 0, found {}", options.residual);
  }
  return std::make_unique<Kivi>(options);
}

}  // namespace tessera::kv
