#include "explain/forest.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tessera/base/random.h"
#include "tessera/base/thread_pool.h"

namespace tessera::explain {

// Grows one tree over a list of rows, depth first with an explicit stack.
struct Forest::Grower {
  TableView inputs;
  std::span<const double> outputs;
  const std::vector<char>& categorical;
  const ForestOptions& options;
  Random random;
  std::vector<uint32_t> rows;
  std::vector<Node> nodes;
  std::vector<std::pair<double, double>> sorted;

  struct Split {
    int32_t feature = -1;
    double threshold = 0;
    double gain = 0;
  };

  double value(uint32_t row, int32_t feature) const { return inputs.at(row, feature); }
  bool goes_left(double x, int32_t feature, double threshold) const {
    return categorical[static_cast<size_t>(feature)] ? x == threshold : x <= threshold;
  }

  // Sum of squares explained by a split, from counts and sums.
  static double gain_of(double left_sum, double left_count, double sum, double count) {
    const double right_sum = sum - left_sum, right_count = count - left_count;
    if (left_count == 0 || right_count == 0) return -1;
    return left_sum * left_sum / left_count + right_sum * right_sum / right_count - sum * sum / count;
  }

  Split random_split(int32_t feature, int64_t begin, int64_t end, double sum) {
    double low = value(rows[static_cast<size_t>(begin)], feature), high = low;
    for (int64_t i = begin; i < end; ++i) {
      const double x = value(rows[static_cast<size_t>(i)], feature);
      low = std::min(low, x);
      high = std::max(high, x);
    }
    if (!(low < high)) return {};
    const double threshold = categorical[static_cast<size_t>(feature)]
                                 ? value(rows[static_cast<size_t>(begin + random.below(end - begin))], feature)
                                 : low + (high - low) * random.uniform();
    double left_sum = 0, left_count = 0;
    for (int64_t i = begin; i < end; ++i) {
      const uint32_t row = rows[static_cast<size_t>(i)];
      if (goes_left(value(row, feature), feature, threshold)) {
        left_sum += outputs[row];
        left_count += 1;
      }
    }
    return {feature, threshold, gain_of(left_sum, left_count, sum, static_cast<double>(end - begin))};
  }

  Split best_split(int32_t feature, int64_t begin, int64_t end, double sum) {
    if (categorical[static_cast<size_t>(feature)]) return random_split(feature, begin, end, sum);
    sorted.clear();
    for (int64_t i = begin; i < end; ++i) {
      const uint32_t row = rows[static_cast<size_t>(i)];
      sorted.emplace_back(value(row, feature), outputs[row]);
    }
    std::sort(sorted.begin(), sorted.end());
    Split best;
    best.gain = -1;
    double left_sum = 0;
    for (size_t i = 0; i + 1 < sorted.size(); ++i) {
      left_sum += sorted[i].second;
      if (sorted[i].first == sorted[i + 1].first) continue;
      const double gain = gain_of(left_sum, static_cast<double>(i + 1), sum, static_cast<double>(end - begin));
      if (gain > best.gain) best = {feature, (sorted[i].first + sorted[i + 1].first) / 2, gain};
    }
    return best;
  }

  Split choose(int64_t begin, int64_t end, double sum) {
    std::vector<int32_t> order(categorical.size());
    std::iota(order.begin(), order.end(), 0);
    random.shuffle(order);
    const int64_t wanted = options.candidates > 0 ? options.candidates : static_cast<int64_t>(order.size());
    Split best;
    int64_t tried = 0;
    for (const int32_t feature : order) {
      const Split split =
          options.best_splits ? best_split(feature, begin, end, sum) : random_split(feature, begin, end, sum);
      if (split.feature < 0 || split.gain < 0) continue;  // constant here: try another
      if (best.feature < 0 || split.gain > best.gain) best = split;
      if (++tried >= wanted) break;
    }
    return best;
  }

  void grow() {
    struct Task {
      int64_t begin, end;
      int32_t node;
    };
    nodes.emplace_back();
    std::vector<Task> tasks = {{0, static_cast<int64_t>(rows.size()), 0}};
    while (!tasks.empty()) {
      const Task task = tasks.back();
      tasks.pop_back();
      double sum = 0, low = outputs[rows[static_cast<size_t>(task.begin)]], high = low;
      for (int64_t i = task.begin; i < task.end; ++i) {
        const double y = outputs[rows[static_cast<size_t>(i)]];
        sum += y;
        low = std::min(low, y);
        high = std::max(high, y);
      }
      nodes[static_cast<size_t>(task.node)].value = sum / static_cast<double>(task.end - task.begin);
      if (low == high || task.end - task.begin < 2 * options.smallest_leaf) continue;
      const Split split = choose(task.begin, task.end, sum);
      if (split.feature < 0) continue;
      const auto first = rows.begin();
      const auto middle = std::partition(first + task.begin, first + task.end, [&](uint32_t row) {
        return goes_left(value(row, split.feature), split.feature, split.threshold);
      });
      const int64_t at = middle - first;
      if (at - task.begin < options.smallest_leaf || task.end - at < options.smallest_leaf) continue;
      const auto left = static_cast<int32_t>(nodes.size());
      nodes[static_cast<size_t>(task.node)].feature = split.feature;
      nodes[static_cast<size_t>(task.node)].threshold = split.threshold;
      nodes[static_cast<size_t>(task.node)].left = left;
      nodes.resize(nodes.size() + 2);
      tasks.push_back({task.begin, at, left});
      tasks.push_back({at, task.end, left + 1});
    }
  }
};

Forest::Forest(TableView inputs, std::span<const double> outputs, const std::vector<Feature>& features,
               const ForestOptions& options) {
  for (const Feature& feature : features) categorical_.push_back(feature.kind == ColumnKind::categorical ? 1 : 0);
  const auto trees = static_cast<size_t>(options.trees);
  std::vector<std::vector<Node>> grown(trees);
  seen_.assign(trees, std::vector<bool>(static_cast<size_t>(inputs.rows), false));
  ThreadPool::shared().parallel_for(0, options.trees, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      Grower grower{inputs, outputs, categorical_, options, Random(options.seed).split(static_cast<uint64_t>(t)), {},
                    {},     {}};
      if (options.bootstrap) {
        for (int64_t i = 0; i < inputs.rows; ++i)
          grower.rows.push_back(static_cast<uint32_t>(grower.random.below(inputs.rows)));
      } else {
        std::vector<uint32_t> all(static_cast<size_t>(inputs.rows));
        std::iota(all.begin(), all.end(), 0U);
        const auto wanted = std::clamp<int64_t>(static_cast<int64_t>(options.sample * static_cast<double>(inputs.rows)),
                                                1, std::min(inputs.rows, options.largest_sample));
        for (int64_t i = 0; i < wanted; ++i) {
          std::swap(all[static_cast<size_t>(i)], all[static_cast<size_t>(i + grower.random.below(inputs.rows - i))]);
        }
        grower.rows.assign(all.begin(), all.begin() + wanted);
      }
      for (const uint32_t row : grower.rows) seen_[static_cast<size_t>(t)][row] = true;
      grower.grow();
      grown[static_cast<size_t>(t)] = std::move(grower.nodes);
    }
  });
  for (const auto& tree : grown) {
    const auto offset = static_cast<int32_t>(nodes_.size());
    roots_.push_back(offset);
    for (Node node : tree) {
      node.left += offset;
      nodes_.push_back(node);
    }
  }
}

double Forest::predict_tree(int64_t tree, std::span<const double> point) const {
  const Node* node = &nodes_[static_cast<size_t>(roots_[static_cast<size_t>(tree)])];
  while (node->feature >= 0) {
    const double x = point[static_cast<size_t>(node->feature)];
    const bool left = categorical_[static_cast<size_t>(node->feature)] ? x == node->threshold : x <= node->threshold;
    node = &nodes_[static_cast<size_t>(node->left + (left ? 0 : 1))];
  }
  return node->value;
}

double Forest::predict(std::span<const double> point) const {
  double sum = 0;
  for (int64_t t = 0; t < trees(); ++t) sum += predict_tree(t, point);
  return sum / static_cast<double>(trees());
}

bool Forest::held_out(int64_t tree, int64_t row) const {
  return !seen_[static_cast<size_t>(tree)][static_cast<size_t>(row)];
}

}  // namespace tessera::explain
