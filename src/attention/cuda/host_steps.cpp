// The kernels' bodies in loops over blocks, and plain loops where the device uses tensor cores: slow, for checking.
#include <algorithm>
#include <cstring>
#include <vector>

#include "attention/cuda/block_score.h"
#include "attention/cuda/exact_probe.h"
#include "attention/cuda/selection_steps.h"

namespace tessera::attention::cuda {
namespace {

template <int kHeadDim, ExactPass kPass>
void run_pass(const Probe& probe, bool half_precision) {
  const auto shared = std::make_unique<ExactShared<kHeadDim>>();
  const ExactBlock block;
  const ExactRows rows = exact_rows(probe);
  const int32_t range = kPass == ExactPass::columns ? kColumnSteps : probe.range_steps;
  for (int32_t head = 0; head < probe.query_heads; ++head) {
    const int32_t keys = kPass == ExactPass::columns ? probe.column_count[head] : probe.key_rows;
    const int32_t steps = (keys + kProbeKeys - 1) / kProbeKeys;
    for (int32_t first = 0; first < steps; first += range) {
      const ExactPlace at{head, first, std::min(first + range, steps), half_precision};
      ExactProbe<kHeadDim, kPass>{block, probe, rows, at, *shared}.run();
    }
  }
}

template <ExactPass kPass>
void run(const Probe& probe, bool half_precision) {
  switch (probe.head_dim) {
    case 64:
      return run_pass<64, kPass>(probe, half_precision);
    case 96:
      return run_pass<96, kPass>(probe, half_precision);
    case 128:
      return run_pass<128, kPass>(probe, half_precision);
    default:
      return run_pass<256, kPass>(probe, half_precision);
  }
}

// The codes of the means of one head's rows, as floats.
struct Means {
  std::vector<float> codes;  // [means, head_dim]
  std::vector<float> steps;  // [means]
};

struct MeanRows {
  const uint16_t* first;
  int64_t stride;
  int32_t rows;
};

Means means_of(const BlockLists& lists, const MeanRows& from) {
  Means means;
  const auto head_dim = static_cast<size_t>(lists.head_dim);
  for (int32_t first = 0; first < from.rows; first += lists.mean_rows) {
    const int32_t last = std::min(first + lists.mean_rows, from.rows);
    std::vector<float> mean(head_dim);
    float largest = 0;
    for (size_t c = 0; c < head_dim; ++c) {
      for (int32_t row = first; row < last; ++row) {
        const uint16_t bits = from.first[row * from.stride + static_cast<int64_t>(c)];
        mean[c] = exact_add(mean[c], element_value(bits, lists.half_precision));
      }
      mean[c] = exact_multiply(mean[c], exact_divide(1, static_cast<float>(last - first)));
      largest = std::max(largest, std::fabs(mean[c]));
    }
    for (const float x : mean) means.codes.push_back(mean_code(x, largest));
    means.steps.push_back(mean_step(largest));
  }
  return means;
}

// [visible tiles] scores of a query tile.
std::vector<float> block_scores(const BlockLists& lists, const Means& queries, const Means& keys, int32_t tile) {
  const TileRule& rule = lists.choice.rule;
  const int32_t parts = rule.query_tile / lists.mean_rows;
  const auto head_dim = static_cast<size_t>(lists.head_dim);
  std::vector<float> scores;
  for (int32_t key_tile = 0; key_tile < rule.visible_tiles(tile); ++key_tile) {
    std::vector<float> pairs;
    for (int32_t q = tile * parts; q < (tile + 1) * parts && q * lists.mean_rows < rule.query_rows; ++q) {
      const int32_t own = rule.own(std::min((q + 1) * lists.mean_rows, rule.query_rows) - 1);
      for (int32_t k = key_tile * parts; k < (key_tile + 1) * parts && k * lists.mean_rows <= own; ++k) {
        float dot = 0;  // of integers below 2^24: exact
        for (size_t c = 0; c < head_dim; ++c) {
          dot +=
              queries.codes[static_cast<size_t>(q) * head_dim + c] * keys.codes[static_cast<size_t>(k) * head_dim + c];
        }
        pairs.push_back(
            pair_score(dot, queries.steps[static_cast<size_t>(q)], keys.steps[static_cast<size_t>(k)], lists.scale));
      }
    }
    const float top = pairs.empty() ? -INFINITY : *std::max_element(pairs.begin(), pairs.end());
    if (parts == 1 || pairs.empty()) {
      scores.push_back(pairs.empty() ? top : exact_multiply(top, 0.6931471805599453F));
      continue;
    }
    uint32_t weights = 0;
    for (const float score : pairs) weights += pair_weight(score, top);
    scores.push_back(tile_score(top, weights));
  }
  return scores;
}

class HostSteps final : public SelectionSteps {
 public:
  explicit HostSteps(bool half_precision) : half_precision_(half_precision) {}

  void clear(void* memory, std::size_t bytes) override { std::memset(memory, 0, bytes); }

  void probe(const Probe& probe, ProbeKind kind) override {
    clear(probe.partial, static_cast<size_t>(exact_row_bytes(probe)));
    run<ExactPass::largest>(probe, half_precision_);
    run<ExactPass::sum>(probe, half_precision_);
    if (kind == ProbeKind::spread) return run<ExactPass::spread>(probe, half_precision_);
    const int64_t masses = int64_t{probe.query_heads} * probe.key_rows;
    clear(probe.diagonal_mass, sizeof(float) * static_cast<size_t>(masses));
    run<ExactPass::lines>(probe, half_precision_);
    for (int64_t i = 0; i < masses; ++i) finish_diagonal(probe.diagonal_mass, i);
  }

  void column_groups(const Probe& probe) override { run<ExactPass::columns>(probe, half_precision_); }

  void choose_columns(const LineChoice& all, int32_t heads, bool again) override {
    const auto shared = std::make_unique<ChoiceShared>();
    for (int32_t head = 0; head < heads; ++head) {
      const LineChoice choice = choice_of_head(all, head);
      cuda::choose_columns(SearchBlock{}, choice, again, *shared);
    }
  }

  void choose_bands(const LineChoice& all, int32_t heads) override {
    const auto shared = std::make_unique<ChoiceShared>();
    for (int32_t head = 0; head < heads; ++head) cuda::choose_bands(SearchBlock{}, choice_of_head(all, head), *shared);
  }

  void count_lines(const LineListArguments& arguments, const LineLists& lists) override {
    const LineTasks tasks = line_tasks(arguments, lists);
    const auto largest = std::make_unique<LargestShared>();
    const TileRule rule = line_rule(arguments, lists);
    for (int32_t head = 0; head < arguments.heads; ++head) {
      for (int32_t i = 0; i < tasks.count; ++i) {
        LargestTask task = tasks.largest[i];
        task.line.values += int64_t{head} * task.line.size;
        task.line.indices += head * task.stride;
        if (task.count != nullptr) task.count[head] = task.line.count;
        write_largest({}, task.line, *largest);
        if (task.bits == nullptr) continue;
        write_bits({}, {task.line.indices, task.line.count, task.words, task.bits + int64_t{head} * task.words,
                        task.summary + int64_t{head} * ((task.words + 31) / 32)});
      }
      int32_t* columns = lists.columns + int64_t{head} * lists.column_stride;
      if (arguments.column_mass == nullptr && arguments.first_column >= 0 && lists.column_stride > 0) {
        for (int32_t i = 0; i < arguments.columns_kept; ++i) columns[i] = arguments.first_column + i;
        lists.column_count[head] = arguments.columns_kept;
      }
      const TileRule own = rule_of_head(rule, head);
      const auto bands = std::make_unique<BandShared>();
      if (lists.band_stride > 0) write_bands({}, band_arguments(arguments, lists, head), *bands);
      uint32_t* flags = list_flags(rule, lists);
      for (int32_t word = 0; flags != nullptr && word < rule.flag_words(); ++word) {
        flags[int64_t{head} * rule.flag_words() + word] = own.flag_word(word);
      }
      for (int32_t tile = 0; tile < line_query_tiles(rule); ++tile) {
        const int64_t list = list_of(lists, rule, head, tile);
        if (has_columns(arguments) && lists.column_stride > 0) {
          lists.column_cut[list] = column_cut(rule, tile, columns, lists.column_count[head]);
        }
        if (lists.band_stride > 0) {
          lists.band_cut[list] = band_cut(rule.first_position + tile * rule.query_tile,
                                          lists.bands + int64_t{head} * lists.band_stride, lists.band_count[head]);
        } else {
          lists.counts[list] = tiles_of(own, lists, head, tile, nullptr);
        }
      }
    }
  }

  void write_lines(const LineListArguments& arguments, const LineLists& lists) override {
    const TileRule rule = line_rule(arguments, lists);
    for (int32_t head = 0; head < arguments.heads; ++head) {
      for (int32_t tile = 0; tile < line_query_tiles(rule); ++tile) {
        if (uint32_t* to = room_of(lists, list_of(lists, rule, head, tile))) {
          tiles_of(rule_of_head(rule, head), lists, head, tile, to);
        }
      }
    }
  }

  void count_blocks(const BlockLists& arguments, const LineLists& lists) override { blocks(arguments, lists, true); }
  void write_blocks(const BlockLists& arguments, const LineLists& lists) override { blocks(arguments, lists, false); }

  void begin_lists(const LineLists& lists, int64_t count) override {
    *lists.overflow = 0;
    lists.tile_begin[0] = 0;
    for (int64_t i = 0; i < count; ++i) lists.tile_begin[i + 1] = lists.tile_begin[i] + lists.counts[i];
  }
  void end_lists(const LineLists& lists, int64_t count) override {
    for (int64_t i = 0; i <= count; ++i) {
      lists.tile_begin[i] = static_cast<int32_t>(std::min<int64_t>(lists.tile_begin[i], lists.tile_capacity));
    }
  }
  int multiprocessors() override { return 1; }

 private:
  static int64_t list_of(const LineLists& lists, const TileRule& rule, int64_t head, int32_t tile) {
    return head * (lists.list_pitch > 0 ? lists.list_pitch : line_query_tiles(rule)) + tile;
  }
  // Null: it does not fit.
  static uint32_t* room_of(const LineLists& lists, int64_t list) {
    if (lists.tile_begin[list + 1] <= lists.tile_capacity) return lists.tiles + lists.tile_begin[list];
    *lists.overflow = 1;
    return nullptr;
  }
  static int32_t tiles_of(const TileRule& rule, const LineLists& lists, int64_t head, int32_t tile, uint32_t* to) {
    TileListShared shared;
    const uint32_t* flags = list_flags(rule, lists);
    return static_cast<int32_t>(
        write_tiles({}, rule, tile, to, shared, flags != nullptr ? flags + head * rule.flag_words() : nullptr));
  }

  void blocks(const BlockLists& from, const LineLists& lists, bool count) {
    const auto shared = std::make_unique<BlockListShared>();
    const TileRule& rule = from.choice.rule;
    const int64_t group = from.query_heads / from.kv_heads;
    const auto* queries = static_cast<const uint16_t*>(from.queries) + from.query_begin * from.query_stride[0];
    const auto* keys = static_cast<const uint16_t*>(from.keys);
    for (int64_t head = 0; head < from.query_heads; ++head) {
      const Means query =
          means_of(from, {queries + head * from.query_stride[1], from.query_stride[0], rule.query_rows});
      const Means key = means_of(from, {keys + head / group * from.key_stride[1], from.key_stride[0], rule.key_rows});
      for (int32_t tile = 0; tile < line_query_tiles(rule); ++tile) {
        const int64_t list = list_of(lists, rule, head, tile);
        uint32_t* to = count ? nullptr : room_of(lists, list);
        if (!count && to == nullptr) continue;
        const std::vector<float> scores = block_scores(from, query, key, tile);
        std::vector<uint32_t> marks(scores.size() / 32 + 1);
        std::vector<int32_t> chosen(static_cast<size_t>(from.choice.top_k));
        const uint32_t entries =
            write_block_list({}, from.choice, tile, scores.data(), marks.data(), chosen.data(), to, *shared);
        if (count) lists.counts[list] = static_cast<int32_t>(entries);
      }
    }
  }

  bool half_precision_;
};

}  // namespace

std::unique_ptr<SelectionSteps> host_steps(bool half_precision) { return std::make_unique<HostSteps>(half_precision); }

}  // namespace tessera::attention::cuda
