// Vertical-slash with fixed budgets (MInference): columns and diagonals with the largest probe mass.
#include "attention/vertical_slash.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "attention/probe.h"
#include "attention/recall_budget.h"
#include "attention/selector_support.h"
#include "tessera/attention/selectors.h"
#include "tessera/base/error.h"

namespace tessera::attention {
namespace {

// Reduces probe weights of consecutive query rows to sums over columns and over distances.
class LineMassSink {
 public:
  LineMassSink(const AttentionInput& input, std::span<const int64_t> rows) : rows_(rows.size()) {
    const size_t query_heads = static_cast<size_t>(input.queries.shape()[1]);
    group_ = query_heads / input.heads.size();
    for (const HeadKeys& head : input.heads) {
      std::vector<int64_t> own;
      for (const int64_t row : rows) own.push_back(visible_rows(head, input.first_position + row) - 1);
      ranges_ = std::max(ranges_, (own.back() / kTileRows + kProbeRangeTiles) / kProbeRangeTiles);
      own_.push_back(std::move(own));
    }
    diagonal_parts_.resize(query_heads * static_cast<size_t>(ranges_));
    masses_.resize(query_heads);
    for (size_t head = 0; head < query_heads; ++head) {
      const auto key_rows = static_cast<size_t>(input.heads[head / group_].rows);
      masses_[head] = {std::vector<float>(key_rows), std::vector<float>(key_rows)};
    }
  }

  void operator()(const ProbeTile& at) {
    LineMass& mass = masses_[static_cast<size_t>(at.head)];
    const std::vector<int64_t>& own = own_[static_cast<size_t>(at.head) / group_];
    std::vector<float>& part = diagonal_parts_[static_cast<size_t>(at.head * ranges_ + at.range)];
    if (part.empty()) part.resize(static_cast<size_t>(part_size(own)));
    const int64_t base = part_base(own, at.range);
    const bool consecutive = own.back() - own.front() == static_cast<int64_t>(rows_) - 1;
    for (int64_t k = 0; k < at.count; ++k) {
      const int64_t key = at.tile * kTileRows + k;
      const float* weights = at.weights + k * kScoreStride;
      float sum = 0;
      for (size_t lane = 0; lane < rows_; ++lane) sum += weights[lane];
      mass.columns[static_cast<size_t>(key)] += sum;
      float* diagonal = part.data() - key - base;
      if (consecutive) {
        diagonal += own.front();
        for (size_t lane = 0; lane < rows_; ++lane) diagonal[lane] += weights[lane];
      } else {
        for (size_t lane = 0; lane < rows_; ++lane) diagonal[own[lane]] += weights[lane];
      }
    }
  }

  // Adds up the ranges, in order; call once.
  std::vector<LineMass> finish() {
    for (size_t head = 0; head < masses_.size(); ++head) {
      std::vector<float>& diagonals = masses_[head].diagonals;
      const std::vector<int64_t>& own = own_[head / group_];
      for (int64_t range = 0; range < ranges_; ++range) {
        const std::vector<float>& part =
            diagonal_parts_[head * static_cast<size_t>(ranges_) + static_cast<size_t>(range)];
        const int64_t base = part_base(own, range);
        for (int64_t i = std::max<int64_t>(0, -base); i < static_cast<int64_t>(part.size()); ++i) {
          if (base + i < static_cast<int64_t>(diagonals.size()))
            diagonals[static_cast<size_t>(base + i)] += part[static_cast<size_t>(i)];
        }
      }
    }
    return std::move(masses_);
  }

 private:
  // A range of keys meets distances part_base .. part_base + part_size - 1.
  static int64_t part_base(const std::vector<int64_t>& own, int64_t range) {
    return own.front() - ((range + 1) * kProbeRangeTiles * kTileRows - 1);
  }
  static int64_t part_size(const std::vector<int64_t>& own) {
    return kProbeRangeTiles * kTileRows + own.back() - own.front();
  }

  size_t rows_;
  size_t group_ = 1;
  int64_t ranges_ = 0;
  std::vector<std::vector<int64_t>> own_;           // [kv_heads][probe rows] own key row of each probe row
  std::vector<std::vector<float>> diagonal_parts_;  // [query_heads * ranges]
  std::vector<LineMass> masses_;                    // [query_heads]
};

void validate(const VerticalSlashOptions& options) {
  if (options.recall < 0 || options.recall > 1 || options.probe_rows < 1 || options.sinks < 0 || options.local < 1) {
    throw Error(
        ErrorCode::invalid_argument,
        "vertical-slash: expected 0 <= recall <= 1, probe_rows >= 1, sinks >= 0 and local >= 1, found recall={}, "
        "probe_rows={}, sinks={}, local={}",
        options.recall, options.probe_rows, options.sinks, options.local);
  }
  const auto valid = [](const VerticalSlashBudget& budget) { return budget.vertical >= 0 && budget.slash >= 0; };
  if (!valid(options.budget) || !std::all_of(options.per_head.begin(), options.per_head.end(),
                                             [&](const auto& entry) { return valid(entry.second); })) {
    throw Error(ErrorCode::invalid_argument, "vertical-slash: expected budgets >= 0, found vertical={}, slash={}",
                options.budget.vertical, options.budget.slash);
  }
}

class VerticalSlash : public Selector {
 public:
  explicit VerticalSlash(const VerticalSlashOptions& options) : options_(options) { validate(options); }

  std::string describe() const override {
    if (options_.recall > 0) return fmt::format("vertical-slash(recall={})", options_.recall);
    return fmt::format("vertical-slash(vertical={}, slash={})", options_.budget.vertical, options_.budget.slash);
  }

  WorkList select(const AttentionInput& input, const SelectContext& context) const override {
    if (options_.recall > 0) return select_by_recall(input, options_, context);
    WorkList work = start_work_list(input);
    if (work.query_rows == 0) return work;
    const std::vector<LineMass> masses = line_masses(input, options_.probe_rows, pool_of(context));
    const int64_t group = static_cast<int64_t>(work.heads.size() / input.heads.size());
    pool_of(context).parallel_for(0, static_cast<int64_t>(work.heads.size()), 1, [&](int64_t h, int64_t, int) {
      const HeadGeometry geometry(input, input.heads[static_cast<size_t>(h / group)]);
      const auto entry = options_.per_head.find({context.layer, static_cast<int>(h)});
      const VerticalSlashBudget& budget = entry == options_.per_head.end() ? options_.budget : entry->second;
      const Lines lines = choose_lines(masses[static_cast<size_t>(h)], budget);
      HeadWork& head = work.heads[static_cast<size_t>(h)];
      TileWriter writer(head);
      const DistanceSet distances(lines.distances, geometry.key_rows);
      for (int64_t tile = 0; tile < geometry.query_tiles(); ++tile) {
        add_diagonal_tiles(distances, geometry, tile, writer);
        writer.end_query_tile();
      }
      set_columns(head, lines.columns, geometry);
    });
    return work;
  }

 private:
  struct Lines {
    std::vector<int32_t> columns;    // ascending
    std::vector<int32_t> distances;  // ascending
  };

  // Forced lines win every comparison, as in MInference; the budgets are at least as large as the forced sets.
  Lines choose_lines(LineMass mass, const VerticalSlashBudget& budget) const {
    const auto force = [](std::vector<float>& values, int64_t count) {
      std::fill_n(values.begin(), std::min(count, static_cast<int64_t>(values.size())),
                  std::numeric_limits<float>::infinity());
    };
    force(mass.columns, options_.sinks);
    force(mass.diagonals, options_.local);
    return {largest_indices(mass.columns, std::max(budget.vertical, options_.sinks)),
            largest_indices(mass.diagonals, std::max(budget.slash, options_.local))};
  }

  VerticalSlashOptions options_;
};

}  // namespace

std::vector<LineMass> line_masses(const AttentionInput& input, int64_t probe_rows, ThreadPool& pool) {
  const int64_t query_rows = input.queries.shape()[0];
  const int64_t wanted = std::min(probe_rows, query_rows);
  std::vector<LineMass> total;
  for (int64_t first = query_rows - wanted; first < query_rows; first += kBlockLanes) {
    std::vector<int64_t> rows(static_cast<size_t>(std::min<int64_t>(kBlockLanes, query_rows - first)));
    std::iota(rows.begin(), rows.end(), first);
    LineMassSink sink(input, rows);
    probe(input, {.rows = rows, .kv_heads = static_cast<int64_t>(input.heads.size())}, pool, std::ref(sink));
    std::vector<LineMass> part = sink.finish();
    if (total.empty()) {
      total = std::move(part);
      continue;
    }
    const auto add = [](std::vector<float>& to, const std::vector<float>& from) {
      std::transform(to.begin(), to.end(), from.begin(), to.begin(), std::plus<>());
    };
    for (size_t head = 0; head < total.size(); ++head) {
      add(total[head].columns, part[head].columns);
      add(total[head].diagonals, part[head].diagonals);
    }
  }
  return total;
}

std::unique_ptr<Selector> make_vertical_slash(const VerticalSlashOptions& options) {
  return std::make_unique<VerticalSlash>(options);
}

}  // namespace tessera::attention
