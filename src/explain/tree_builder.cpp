#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "explain/index_content.h"
#include "tessera/base/interrupt.h"
#include "tessera/base/thread_pool.h"

namespace tessera::explain {
namespace {

constexpr int64_t kSample = 255;            // rows behind a split
constexpr int64_t kParallelRows = 1 << 17;  // subtrees of at most this many rows are built side by side

struct Split {
  int64_t dimension = -1;  // -1: all rows are equal
  float at = 0;
  bool with_equal = false;  // rows equal to `at` go left
};

// One task left for later: a subtree whose nodes are made on another thread.
struct Pending {
  int64_t begin, end;
  int depth;
  size_t placeholder;  // its node in the upper tree
};

class Arrangement {
 public:
  explicit Arrangement(const TreeBuilder& builder) : b_(builder) {}

  // Nodes of [begin, end) in preorder. pending: subtrees of at most kParallelRows become placeholders there.
  void arrange(int64_t begin, int64_t end, int depth, std::vector<IndexNode>& nodes, std::vector<Pending>* pending) {
    if (pending != nullptr && end - begin <= kParallelRows) {
      pending->push_back({begin, end, depth, nodes.size()});
      nodes.emplace_back();
      return;
    }
    const Split split = end - begin <= b_.leaf_rows || depth >= kDeepestNode ? Split{} : choose(begin, end);
    if (split.dimension < 0) {
      nodes.push_back({kLeaf, 0, static_cast<uint32_t>(begin), static_cast<uint32_t>(end - begin)});
      return;
    }
    const int64_t middle = partition(begin, end, split);
    const size_t self = nodes.size();
    nodes.push_back({static_cast<int32_t>(split.dimension), split.at, 0, 0});
    arrange(begin, middle, depth + 1, nodes, pending);
    nodes[self].first = static_cast<uint32_t>(nodes.size());
    arrange(middle, end, depth + 1, nodes, pending);
  }

 private:
  float value(int64_t row, int64_t dimension) const { return b_.values[row * b_.dimensions + dimension]; }

  // Median of a sample along the dimension in which the sample spreads most; both sides get at least one row.
  Split choose(int64_t begin, int64_t end) const {
    const int64_t count = std::min(kSample, end - begin);
    const auto row_at = [&](int64_t k) { return begin + k * (end - begin) / count; };
    int64_t widest = -1;
    double most = 0;
    for (int64_t j = 0; j < b_.dimensions; ++j) {
      double sum = 0, squares = 0;
      for (int64_t k = 0; k < count; ++k) {
        const double x = value(row_at(k), j);
        sum += x;
        squares += x * x;
      }
      const auto size = static_cast<double>(count);
      const double variance = squares / size - (sum / size) * (sum / size);
      if (variance > most) {
        bool differs = false;
        for (int64_t k = 1; k < count && !differs; ++k) differs = value(row_at(k), j) != value(begin, j);
        if (!differs) continue;
        most = variance;
        widest = j;
      }
    }
    if (widest < 0) return rare_difference(begin, end);
    std::array<float, kSample> sample;
    for (int64_t k = 0; k < count; ++k) sample[static_cast<size_t>(k)] = value(row_at(k), widest);
    const auto middle = sample.begin() + count / 2;
    std::nth_element(sample.begin(), middle, sample.begin() + count);
    const bool lowest = std::none_of(sample.begin(), sample.begin() + count, [&](float x) { return x < *middle; });
    return {widest, *middle, lowest};
  }

  // The sample saw equal rows only: look at all.
  Split rare_difference(int64_t begin, int64_t end) const {
    for (int64_t j = 0; j < b_.dimensions; ++j) {
      float low = value(begin, j), high = low;
      for (int64_t i = begin + 1; i < end; ++i) {
        low = std::min(low, value(i, j));
        high = std::max(high, value(i, j));
      }
      if (low < high) return {j, low, true};
    }
    return {};
  }

  int64_t partition(int64_t begin, int64_t end, const Split& split) const {
    const auto left = [&](int64_t row) {
      const float x = value(row, split.dimension);
      return split.with_equal ? x <= split.at : x < split.at;
    };
    int64_t low = begin, high = end - 1;
    for (;;) {
      while (low <= high && left(low)) ++low;
      while (low < high && !left(high)) --high;
      if (low >= high) return low;
      std::swap_ranges(b_.values + low * b_.dimensions, b_.values + (low + 1) * b_.dimensions,
                       b_.values + high * b_.dimensions);
      std::swap(b_.order[low], b_.order[high]);
      ++low;
      --high;
    }
  }

  const TreeBuilder& b_;
};

void transpose_leaf(const TreeBuilder& builder, const IndexNode& leaf, std::vector<float>& scratch) {
  float* at = builder.values + static_cast<int64_t>(leaf.first) * builder.dimensions;
  const int64_t count = leaf.count;
  scratch.assign(at, at + count * builder.dimensions);
  for (int64_t j = 0; j < builder.dimensions; ++j) {
    for (int64_t i = 0; i < count; ++i) at[j * count + i] = scratch[static_cast<size_t>(i * builder.dimensions + j)];
  }
}

}  // namespace

void TreeBuilder::build(int64_t begin, int64_t end, bool split, std::vector<IndexNode>& nodes) const {
  std::vector<float> scratch;
  if (!split || dimensions == 0) {
    nodes.push_back({kLeaf, 0, static_cast<uint32_t>(begin), static_cast<uint32_t>(end - begin)});
    transpose_leaf(*this, nodes.back(), scratch);
    return;
  }
  std::vector<IndexNode> upper;
  std::vector<Pending> pending;
  Arrangement(*this).arrange(begin, end, 0, upper, &pending);
  std::vector<std::vector<IndexNode>> lower(pending.size());
  ThreadPool::shared().parallel_for(0, static_cast<int64_t>(pending.size()), 1, [&](int64_t from, int64_t to, int) {
    std::vector<float> buffer;
    for (int64_t p = from; p < to; ++p) {
      throw_if_interrupted();
      const Pending& part = pending[static_cast<size_t>(p)];
      auto& made = lower[static_cast<size_t>(p)];
      Arrangement(*this).arrange(part.begin, part.end, part.depth, made, nullptr);
      for (const IndexNode& node : made) {
        if (node.dimension == kLeaf) transpose_leaf(*this, node, buffer);
      }
    }
  });
  // Placeholders grow into their subtrees; right children move along.
  std::vector<uint32_t> moved(upper.size());
  uint32_t position = static_cast<uint32_t>(nodes.size());
  size_t next = 0;
  for (size_t i = 0; i < upper.size(); ++i) {
    moved[i] = position;
    const bool grows = next < pending.size() && pending[next].placeholder == i;
    position += grows ? static_cast<uint32_t>(lower[next++].size()) : 1;
  }
  next = 0;
  for (size_t i = 0; i < upper.size(); ++i) {
    if (next < pending.size() && pending[next].placeholder == i) {
      for (IndexNode node : lower[next]) {
        if (node.dimension != kLeaf) node.first += moved[i];
        nodes.push_back(node);
      }
      ++next;
      continue;
    }
    IndexNode node = upper[i];
    if (node.dimension != kLeaf) {
      node.first = moved[node.first];
    } else {
      transpose_leaf(*this, node, scratch);
    }
    nodes.push_back(node);
  }
}

}  // namespace tessera::explain
