#include "explain/row_search.h"

#include <algorithm>
#include <cmath>

#include "explain/lanes.h"
#include "tessera/base/error.h"
#include "tessera/base/random.h"

namespace tessera::explain {
namespace {

constexpr int64_t kBlock = 1024;         // rows scanned at a time
constexpr float kBoundRounding = 1e-5F;  // relative error of a bound summed in float32

}  // namespace

// Keeps a superset of the `count` smallest float32 distances: everything within rounding of the count-th.
class RowSearch::Collector {
 public:
  Collector(int64_t count, double scale) : count_(static_cast<size_t>(count)), rounding_(2e-6 * scale) {}

  void offer(float distance2, uint32_t position) {
    if (distance2 > limit_) return;
    found_.push_back({distance2, position});
    if (found_.size() >= patience_) {
      shrink();
      patience_ = std::max(4 * count_ + 64, 2 * found_.size());  // many equal distances all stay
    }
  }
  float limit() const { return limit_; }
  void shrink() {
    if (found_.size() <= count_) return;
    std::nth_element(found_.begin(), found_.begin() + static_cast<int64_t>(count_) - 1, found_.end(),
                     [](const Item& a, const Item& b) { return a.distance2 < b.distance2; });
    const double root = std::sqrt(found_[count_ - 1].distance2) + rounding_;
    limit_ = std::min(limit_, static_cast<float>(root * root * (1 + 2e-6)) + 1e-30F);
    std::erase_if(found_, [this](const Item& item) { return item.distance2 > limit_; });
  }

  struct Item {
    float distance2;
    uint32_t position;
  };
  std::vector<Item>& items() { return found_; }
  size_t count() const { return count_; }

 private:
  size_t count_;
  size_t patience_ = 4 * count_ + 64;
  double rounding_;
  float limit_ = std::numeric_limits<float>::max();
  std::vector<Item> found_;
};

// The query in standardised units, and how far it is from the region under visit along each feature.
struct RowSearch::Centre {
  std::vector<float> at, weight, side;
};

RowSearch::RowSearch(TableView table, std::shared_ptr<const TableIndex> index)
    : table_(table), index_(std::move(index)), content_(index_->content()) {
  for (const ColumnStatistics& column : content_.statistics) {
    mean_.push_back(column.mean);
    deviation_.push_back(index_scale(column));
  }
}

std::pair<double, double> RowSearch::range(int64_t feature) const {
  const ColumnStatistics& column = content_.statistics[static_cast<size_t>(feature)];
  return {column.low, column.high};
}

const std::vector<int64_t>& RowSearch::level_count(int64_t feature) const {
  return content_.level_count[static_cast<size_t>(feature)];
}

int64_t RowSearch::cell_of(std::span<const double> query) const {
  std::vector<int32_t> codes(categorical().size());
  for (size_t c = 0; c < codes.size(); ++c)
    codes[c] = static_cast<int32_t>(query[static_cast<size_t>(categorical()[c])]);
  const auto& cells = content_.cells;
  const auto at =
      std::lower_bound(cells.begin(), cells.end(), codes,
                       [](const IndexCell& cell, const std::vector<int32_t>& key) { return cell.codes < key; });
  return at == cells.end() || at->codes != codes ? -1 : at - cells.begin();
}

std::span<const uint32_t> RowSearch::cell_rows(std::span<const double> query) const {
  const int64_t index = cell_of(query);
  if (index < 0) return {};
  const IndexCell& cell = content_.cells[static_cast<size_t>(index)];
  return content_.order.subspan(static_cast<size_t>(cell.begin), static_cast<size_t>(cell.end - cell.begin));
}

Metric RowSearch::standard_metric() const {
  Metric metric;
  for (const int64_t j : continuous()) {
    const double deviation = deviation_[static_cast<size_t>(j)];
    metric.weight.push_back(1 / (deviation * deviation));
  }
  metric.penalty.assign(categorical().size(), 0);
  return metric;
}

double RowSearch::exact_distance(std::span<const double> query, const Metric& metric, int64_t row) const {
  double sum = 0;
  for (size_t c = 0; c < continuous().size(); ++c) {
    const double difference = table_.at(row, continuous()[c]) - query[static_cast<size_t>(continuous()[c])];
    sum += metric.weight[c] * difference * difference;
  }
  for (size_t c = 0; c < categorical().size(); ++c) {
    if (table_.at(row, categorical()[c]) != query[static_cast<size_t>(categorical()[c])]) sum += metric.penalty[c];
  }
  return sum;
}

void RowSearch::scan(int64_t first, int64_t count, const Centre& centre, float penalty, Collector& found) const {
  const size_t dimensions = continuous().size();
  const float* leaf = content_.values.data() + static_cast<size_t>(first) * dimensions;
  float distance[kBlock];
  thread_local std::vector<const float*> columns;
  columns.resize(dimensions);
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t size = std::min(kBlock, count - begin);
    for (size_t c = 0; c < dimensions; ++c) columns[c] = leaf + static_cast<int64_t>(c) * count + begin;
    lanes().distances(columns.data(), centre.at.data(), centre.weight.data(), static_cast<int64_t>(dimensions), size,
                      distance);
    for (int64_t i = 0; i < size; ++i) {
      const float total = distance[i] + penalty;
      if (total <= found.limit()) found.offer(total, static_cast<uint32_t>(first + begin + i));
    }
  }
}

// bound: squared distance from the query to the region of `node`, penalty included.
void RowSearch::visit(int64_t node, float bound, Centre& centre, float penalty, Collector& found) const {
  const IndexNode& here = content_.nodes[static_cast<size_t>(node)];
  if (here.dimension == kLeaf) return scan(here.first, here.count, centre, penalty, found);
  const auto c = static_cast<size_t>(here.dimension);
  const float difference = centre.at[c] - here.split;
  const bool left = difference < 0;
  visit(left ? node + 1 : here.first, bound, centre, penalty, found);
  const float beyond = centre.weight[c] * difference * difference;
  const float before = centre.side[c];
  const float far = bound + (beyond > before ? beyond - before : 0);
  if (far * (1 - kBoundRounding) > found.limit()) return;
  centre.side[c] = std::max(beyond, before);
  visit(left ? here.first : node + 1, far, centre, penalty, found);
  centre.side[c] = before;
}

std::vector<Neighbour> RowSearch::nearest(std::span<const double> query, const Metric& metric, int64_t count,
                                          int64_t exclude) const {
  count = std::min(count, table_.rows);
  if (count <= 0) return {};
  const size_t dimensions = continuous().size();
  Centre centre{std::vector<float>(dimensions), std::vector<float>(dimensions), std::vector<float>(dimensions, 0)};
  double widest = 0;
  float largest = content_.largest;
  for (size_t c = 0; c < continuous().size(); ++c) {
    const auto j = static_cast<size_t>(continuous()[c]);
    centre.at[c] = static_cast<float>((query[j] - mean_[j]) / deviation_[j]);
    centre.weight[c] = static_cast<float>(metric.weight[c] * deviation_[j] * deviation_[j]);
    widest += metric.weight[c] * deviation_[j] * deviation_[j];
    largest = std::max(largest, std::abs(centre.at[c]));
  }
  Collector found(count + (exclude >= 0 ? 1 : 0), std::sqrt(widest) * (1 + static_cast<double>(largest)));
  std::vector<std::pair<double, size_t>> visits;
  for (size_t index = 0; index < content_.cells.size(); ++index) {
    double penalty = 0;
    for (size_t c = 0; c < categorical().size(); ++c) {
      if (content_.cells[index].codes[c] != static_cast<int32_t>(query[static_cast<size_t>(categorical()[c])]))
        penalty += metric.penalty[c];
    }
    if (std::isfinite(penalty)) visits.emplace_back(penalty, index);
  }
  std::sort(visits.begin(), visits.end());
  for (const auto& [penalty, index] : visits) {
    found.shrink();
    if (static_cast<float>(penalty) > found.limit()) break;
    visit(content_.cells[index].root, static_cast<float>(penalty), centre, static_cast<float>(penalty), found);
  }
  found.shrink();
  std::vector<Neighbour> result;
  result.reserve(found.items().size());
  for (const auto& item : found.items()) {
    const int64_t row = content_.order[item.position];
    if (row >= table_.rows) throw Error(ErrorCode::bad_file, "the index names row {} of {}", row, table_.rows);
    if (row != exclude) result.push_back({exact_distance(query, metric, row), row});
  }
  std::sort(result.begin(), result.end(), [](const Neighbour& a, const Neighbour& b) {
    return a.distance2 != b.distance2 ? a.distance2 < b.distance2 : a.row < b.row;
  });
  if (static_cast<int64_t>(result.size()) > count) result.resize(static_cast<size_t>(count));
  return result;
}

double RowSearch::usual_gap() const {
  std::call_once(gap_once_, [&] {
    constexpr int64_t kSample = 101;
    constexpr double kShare = 0.99;
    Metric metric = standard_metric();
    metric.penalty.assign(metric.penalty.size(), std::numeric_limits<double>::infinity());
    Random random(0);
    std::vector<double> gaps;
    std::vector<double> values(static_cast<size_t>(table_.columns));
    for (int64_t k = 0; k < kSample; ++k) {
      const int64_t row = random.below(table_.rows);
      for (size_t j = 0; j < values.size(); ++j) values[j] = table_.at(row, static_cast<int64_t>(j));
      const auto found = nearest(values, metric, 1, row);
      gaps.push_back(found.empty() ? std::numeric_limits<double>::infinity() : std::sqrt(found[0].distance2));
    }
    std::sort(gaps.begin(), gaps.end());
    gap_ = gaps[static_cast<size_t>(kShare * static_cast<double>(kSample - 1))];
  });
  return gap_;
}

}  // namespace tessera::explain
