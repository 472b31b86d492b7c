// Regression forests: extremely randomised trees (Geurts, Ernst and Wehenkel 2006) or best splits on bootstrap samples
// (Breiman 2001). A mimic of the black box, an estimator for step-like outputs, and the black box of our own benchmark.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tessera/explain/explain.h"

namespace tessera::explain {

struct ForestOptions {
  int64_t trees = 100;
  bool best_splits = false;  // best threshold per candidate feature (random forest) instead of a random one
  int64_t candidates = 0;    // features tried per split; 0: all
  int64_t smallest_leaf = 1;
  // Share of the rows in each tree, drawn without replacement (the others are held out); at most `largest_sample` rows.
  double sample = 0.8;
  int64_t largest_sample = 100000;
  bool bootstrap = false;  // draw as many rows as there are, with replacement (then `sample` is not used)
  uint64_t seed = 0;
};

class Forest {
 public:
  Forest(TableView inputs, std::span<const double> outputs, const std::vector<Feature>& features,
         const ForestOptions& options);

  double predict(std::span<const double> point) const;
  int64_t trees() const { return static_cast<int64_t>(roots_.size()); }
  double predict_tree(int64_t tree, std::span<const double> point) const;
  // True when the tree has not seen the row.
  bool held_out(int64_t tree, int64_t row) const;

 private:
  struct Node {
    int32_t feature = -1;  // -1: leaf
    int32_t left = 0;      // right is left + 1
    double threshold = 0;  // continuous: <= goes left; categorical: == goes left
    double value = 0;
  };
  struct Grower;
  std::vector<Node> nodes_;
  std::vector<int32_t> roots_;
  std::vector<char> categorical_;
  std::vector<std::vector<bool>> seen_;  // [trees][rows]
};

}  // namespace tessera::explain
