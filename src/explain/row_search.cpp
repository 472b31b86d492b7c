#include "explain/row_search.h"

#include <algorithm>
#include <cmath>
#include <nanoflann.hpp>
#include <numeric>

#include "explain/lanes.h"

namespace tessera::explain {
namespace {

constexpr int64_t kBlock = 1024;         // rows scanned at a time
constexpr int64_t kTreeRows = 4096;      // smaller cells are scanned
constexpr int64_t kTreeDimensions = 10;  // beyond, a tree visits most leaves

// What nanoflann reads: one cell's standardised columns.
struct Points {
  const float* columns;
  int64_t stride;
  int64_t begin;
  int64_t count;
  size_t kdtree_get_point_count() const { return static_cast<size_t>(count); }
  float kdtree_get_pt(uint32_t index, size_t dimension) const {
    return columns[static_cast<int64_t>(dimension) * stride + begin + index];
  }
  template <class Box>
  bool kdtree_get_bbox(Box&) const {
    return false;
  }
};

// Squared distance with weights per dimension that are set for one search (per thread).
thread_local const float* search_weight = nullptr;

struct WeightedDistance {
  using ElementType = float;
  using DistanceType = float;
  const Points& points;
  explicit WeightedDistance(const Points& source) : points(source) {}
  float evalMetric(const float* query, uint32_t index, size_t size) const {
    float sum = 0;
    for (size_t j = 0; j < size; ++j) {
      const float difference = query[j] - points.kdtree_get_pt(index, j);
      sum += search_weight[j] * difference * difference;
    }
    return sum;
  }
  template <typename U, typename V>
  float accum_dist(const U a, const V b, const size_t dimension) const {
    return search_weight[dimension] * (a - b) * (a - b);
  }
};

using KdTree = nanoflann::KDTreeSingleIndexAdaptor<WeightedDistance, Points, -1, uint32_t>;

}  // namespace

// Keeps a superset of the `count` smallest float32 distances: everything within rounding of the count-th.
class RowSearch::Collector {
 public:
  Collector(int64_t count, double scale) : count_(static_cast<size_t>(count)), rounding_(2e-6 * scale) {}

  void offer(float distance2, uint32_t position) {
    if (distance2 > limit_) return;
    found_.push_back({distance2, position});
    if (found_.size() >= 4 * count_ + 64) shrink();
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

  // nanoflann's result set.
  using DistanceType = float;
  size_t size() const { return found_.size(); }
  bool full() const { return limit_ < std::numeric_limits<float>::max(); }
  bool addPoint(float distance2, uint32_t index) {
    offer(distance2 + penalty, begin + index);
    return true;
  }
  float worstDist() const { return limit_ - penalty; }
  float penalty = 0;
  uint32_t begin = 0;

 private:
  size_t count_;
  double rounding_;
  float limit_ = std::numeric_limits<float>::max();
  std::vector<Item> found_;
};

struct RowSearch::Tree {
  Points points;
  KdTree tree;
  Tree(const Points& source, size_t dimensions)
      : points(source), tree(static_cast<int>(dimensions), points, nanoflann::KDTreeSingleIndexAdaptorParams(32)) {
    tree.buildIndex();
  }
};

RowSearch::RowSearch(TableView table, const std::vector<Feature>& features) : table_(table) {
  for (size_t j = 0; j < features.size(); ++j) {
    (features[j].kind == ColumnKind::continuous ? continuous_ : categorical_).push_back(static_cast<int64_t>(j));
  }
  mean_.assign(features.size(), 0);
  deviation_.assign(features.size(), 1);
  const auto n = static_cast<double>(table_.rows);
  for (const int64_t j : continuous_) {
    double sum = 0;
    for (int64_t i = 0; i < table_.rows; ++i) sum += table_.at(i, j);
    double squares = 0;
    for (int64_t i = 0; i < table_.rows; ++i) squares += (table_.at(i, j) - sum / n) * (table_.at(i, j) - sum / n);
    mean_[static_cast<size_t>(j)] = sum / n;
    const double deviation = std::sqrt(squares / n);
    deviation_[static_cast<size_t>(j)] = deviation > 0 ? deviation : 1;
  }
  group_cells();
  fill_columns();
  for (Cell& cell : cells_) {
    const int64_t count = cell.end - cell.begin;
    const auto dimensions = static_cast<int64_t>(continuous_.size());
    if (count < kTreeRows || dimensions > kTreeDimensions || dimensions == 0) continue;
    cell.tree = std::make_unique<Tree>(Points{columns_.data(), table_.rows, cell.begin, count}, continuous_.size());
  }
}

RowSearch::~RowSearch() = default;

void RowSearch::group_cells() {
  order_.resize(static_cast<size_t>(table_.rows));
  std::iota(order_.begin(), order_.end(), 0U);
  const auto code = [&](uint32_t row, size_t c) { return static_cast<int32_t>(table_.at(row, categorical_[c])); };
  const auto before = [&](uint32_t a, uint32_t b) {
    for (size_t c = 0; c < categorical_.size(); ++c) {
      if (code(a, c) != code(b, c)) return code(a, c) < code(b, c);
    }
    return a < b;
  };
  if (!categorical_.empty()) std::sort(order_.begin(), order_.end(), before);
  for (int64_t i = 0; i < table_.rows; ++i) {
    std::vector<int32_t> codes(categorical_.size());
    for (size_t c = 0; c < codes.size(); ++c) codes[c] = code(order_[static_cast<size_t>(i)], c);
    if (cells_.empty() || cells_.back().codes != codes) {
      cells_.emplace_back();
      cells_.back().begin = i;
      cells_.back().codes = std::move(codes);
    }
    cells_.back().end = i + 1;
  }
}

void RowSearch::fill_columns() {
  columns_.resize(continuous_.size() * static_cast<size_t>(table_.rows));
  for (size_t c = 0; c < continuous_.size(); ++c) {
    const auto j = static_cast<size_t>(continuous_[c]);
    float* column = columns_.data() + c * static_cast<size_t>(table_.rows);
    for (int64_t i = 0; i < table_.rows; ++i) {
      column[i] =
          static_cast<float>((table_.at(order_[static_cast<size_t>(i)], continuous_[c]) - mean_[j]) / deviation_[j]);
      largest_ = std::max(largest_, std::abs(column[i]));
    }
  }
}

int64_t RowSearch::cell_of(std::span<const double> query) const {
  std::vector<int32_t> codes(categorical_.size());
  for (size_t c = 0; c < codes.size(); ++c)
    codes[c] = static_cast<int32_t>(query[static_cast<size_t>(categorical_[c])]);
  const auto at = std::lower_bound(cells_.begin(), cells_.end(), codes,
                                   [](const Cell& cell, const std::vector<int32_t>& key) { return cell.codes < key; });
  return at == cells_.end() || at->codes != codes ? -1 : at - cells_.begin();
}

std::span<const uint32_t> RowSearch::cell_rows(std::span<const double> query) const {
  const int64_t index = cell_of(query);
  if (index < 0) return {};
  const Cell& cell = cells_[static_cast<size_t>(index)];
  return std::span(order_).subspan(static_cast<size_t>(cell.begin), static_cast<size_t>(cell.end - cell.begin));
}

Metric RowSearch::standard_metric() const {
  Metric metric;
  for (const int64_t j : continuous_) {
    const double deviation = deviation_[static_cast<size_t>(j)];
    metric.weight.push_back(1 / (deviation * deviation));
  }
  metric.penalty.assign(categorical_.size(), 0);
  return metric;
}

double RowSearch::exact_distance(std::span<const double> query, const Metric& metric, int64_t row) const {
  double sum = 0;
  for (size_t c = 0; c < continuous_.size(); ++c) {
    const double difference = table_.at(row, continuous_[c]) - query[static_cast<size_t>(continuous_[c])];
    sum += metric.weight[c] * difference * difference;
  }
  for (size_t c = 0; c < categorical_.size(); ++c) {
    if (table_.at(row, categorical_[c]) != query[static_cast<size_t>(categorical_[c])]) sum += metric.penalty[c];
  }
  return sum;
}

void RowSearch::scan(const Cell& cell, const float* centre, const float* weight, double penalty,
                     Collector& found) const {
  if (cell.tree) {
    found.penalty = static_cast<float>(penalty);
    found.begin = static_cast<uint32_t>(cell.begin);
    search_weight = weight;
    cell.tree->tree.findNeighbors(found, centre, nanoflann::SearchParams());
    return;
  }
  float distance[kBlock];
  std::vector<const float*> columns(continuous_.size());
  for (int64_t begin = cell.begin; begin < cell.end; begin += kBlock) {
    const int64_t count = std::min(kBlock, cell.end - begin);
    for (size_t c = 0; c < columns.size(); ++c)
      columns[c] = columns_.data() + c * static_cast<size_t>(table_.rows) + begin;
    lanes().distances(columns.data(), centre, weight, static_cast<int64_t>(columns.size()), count, distance);
    for (int64_t i = 0; i < count; ++i) {
      const float total = distance[i] + static_cast<float>(penalty);
      if (total <= found.limit()) found.offer(total, static_cast<uint32_t>(begin + i));
    }
  }
}

std::vector<Neighbour> RowSearch::nearest(std::span<const double> query, const Metric& metric, int64_t count,
                                          int64_t exclude) const {
  count = std::min(count, table_.rows);
  if (count <= 0) return {};
  std::vector<float> centre(continuous_.size() + 1), weight(continuous_.size() + 1);
  double widest = 0;
  float largest = largest_;
  for (size_t c = 0; c < continuous_.size(); ++c) {
    const auto j = static_cast<size_t>(continuous_[c]);
    centre[c] = static_cast<float>((query[j] - mean_[j]) / deviation_[j]);
    weight[c] = static_cast<float>(metric.weight[c] * deviation_[j] * deviation_[j]);
    widest += metric.weight[c] * deviation_[j] * deviation_[j];
    largest = std::max(largest, std::abs(centre[c]));
  }
  Collector found(count + (exclude >= 0 ? 1 : 0), std::sqrt(widest) * (1 + static_cast<double>(largest)));
  std::vector<std::pair<double, size_t>> visits;
  for (size_t index = 0; index < cells_.size(); ++index) {
    double penalty = 0;
    for (size_t c = 0; c < categorical_.size(); ++c) {
      if (cells_[index].codes[c] != static_cast<int32_t>(query[static_cast<size_t>(categorical_[c])]))
        penalty += metric.penalty[c];
    }
    if (std::isfinite(penalty)) visits.emplace_back(penalty, index);
  }
  std::sort(visits.begin(), visits.end());
  for (const auto& [penalty, index] : visits) {
    found.shrink();
    if (static_cast<float>(penalty) > found.limit()) break;
    scan(cells_[index], centre.data(), weight.data(), penalty, found);
  }
  found.shrink();
  std::vector<Neighbour> result;
  result.reserve(found.items().size());
  for (const auto& item : found.items()) {
    const int64_t row = order_[item.position];
    if (row != exclude) result.push_back({exact_distance(query, metric, row), row});
  }
  std::sort(result.begin(), result.end(), [](const Neighbour& a, const Neighbour& b) {
    return a.distance2 != b.distance2 ? a.distance2 < b.distance2 : a.row < b.row;
  });
  if (static_cast<int64_t>(result.size()) > count) result.resize(static_cast<size_t>(count));
  return result;
}

}  // namespace tessera::explain
