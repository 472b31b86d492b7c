#include <Eigen/Dense>

#include "experts/soft_rules.h"

namespace tessera::experts {

std::vector<float> laplacian_inverse(const Design& design) {
  const auto classes = static_cast<Eigen::Index>(design.classes);
  // The constant vector spans the null space; adding 1 1' / K there leaves the rest alone, and is taken off again.
  const Eigen::MatrixXd ones = Eigen::MatrixXd::Constant(classes, classes, 1.0 / static_cast<double>(classes));
  Eigen::MatrixXd laplacian = ones;
  for (const auto& set : design.sets) {
    for (const int a : set) {
      laplacian(a, a) += static_cast<double>(set.size());
      for (const int b : set) laplacian(a, b) -= 1;
    }
  }
  const Eigen::MatrixXd inverse = laplacian.llt().solve(Eigen::MatrixXd::Identity(classes, classes)) - ones;
  std::vector<float> result(static_cast<size_t>(classes * classes));
  for (Eigen::Index a = 0; a < classes; ++a) {
    for (Eigen::Index b = 0; b < classes; ++b)
      result[static_cast<size_t>(a * classes + b)] = static_cast<float>(inverse(a, b));
  }
  return result;
}

}  // namespace tessera::experts
