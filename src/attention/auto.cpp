// `auto`: dense for short prompts, vertical-slash by recall for long ones, decided per head.
#include <fmt/format.h>

#include <algorithm>

#include "attention/recall_budget.h"
#include "attention/selector_support.h"
#include "tessera/attention/selectors.h"
#include "tessera/base/clock.h"
#include "tessera/base/error.h"
#include "tessera/base/random.h"

namespace tessera::attention {
namespace {

// Below so many query rows a probe of 64 rows costs more than a quarter of dense attention.
constexpr int64_t kLeastQueryRows = 256;
// Sparse is tried where choosing costs at most this share of dense attention.
constexpr double kSelectionShare = 0.1;

// One head of random rows of head_dim 64, enough to time both ways.
struct Specimen {
  static constexpr int64_t kRows = 1024;
  static constexpr int64_t kHeadDim = 64;
  Tensor queries = Tensor::empty(DType::f32, {kRows, 1, kHeadDim});
  Tensor storage = Tensor::empty(DType::f32, {kRows / kTileRows, 2 * kTileRows* kHeadDim});  // f32 tiles
  std::vector<KeyValueTile> tiles;
  HeadKeys head;

  Specimen() {
    Random random(1);
    for (Tensor* tensor : {&queries, &storage}) {
      float* data = tensor->data<float>();
      std::generate_n(data, tensor->elements(), [&] { return static_cast<float>(2 * random.uniform() - 1); });
    }
    for (int64_t tile = 0; tile < kRows / kTileRows; ++tile) {
      tiles.push_back({storage.slice(tile, 1).raw(), kTileRows, TileFormat::f32});
    }
    head = {.tiles = tiles, .positions = {}, .rows = kRows};
  }
  AttentionInput input() const { return {.queries = queries, .heads = std::span(&head, 1)}; }
};

template <typename Work>
double fastest_cpu_ms(const Work& work) {
  double fastest = 1e9;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const Stopwatch watch;
    work();
    fastest = std::min(fastest, watch.elapsed().cpu_ms);
  }
  return fastest;
}

// Key rows from which choosing costs at most kSelectionShare of dense. Choosing grows like the rows, dense like their
// square.
int64_t measured_crossover() {
  static const int64_t crossover = [] {
    const Specimen specimen;
    ThreadPool one(1);
    const double dense = fastest_cpu_ms([&] { attend_dense(specimen.input(), {.pool = &one}); });
    const double choosing =
        fastest_cpu_ms([&] { select_by_recall(specimen.input(), {.recall = 0.95}, {.pool = &one}); });
    const double rows = Specimen::kRows * choosing / (kSelectionShare * std::max(dense, 1e-3));
    return std::clamp<int64_t>(static_cast<int64_t>(rows), 1024, 65536);
  }();
  return crossover;
}

class Auto : public Selector {
 public:
  explicit Auto(const AutoOptions& options) : options_(options) {
    if (!(options.recall > 0 && options.recall <= 1) || options.crossover < 0) {
      throw Error(ErrorCode::invalid_argument,
                  "auto: expected a recall in (0, 1] and crossover >= 0, found recall={}, crossover={}", options.recall,
                  options.crossover);
    }
  }

  std::string describe() const override {
    return options_.crossover == 0 ? fmt::format("auto(recall={})", options_.recall)
                                   : fmt::format("auto(recall={}, crossover={})", options_.recall, options_.crossover);
  }

  WorkList select(const AttentionInput& input, const SelectContext& context) const override {
    WorkList work = start_work_list(input);
    const int64_t crossover = options_.crossover > 0 ? options_.crossover : measured_crossover();
    if (work.key_rows < crossover || work.query_rows < kLeastQueryRows) {
      for (HeadWork& head : work.heads) head.dense = true;
      return work;
    }
    return select_by_recall(input, {.recall = options_.recall}, context);
  }

 private:
  AutoOptions options_;
};

}  // namespace

std::unique_ptr<Selector> make_auto(const AutoOptions& options) { return std::make_unique<Auto>(options); }

}  // namespace tessera::attention
