// Weighted local polynomial regression with all its bootstrap refits in closed form.
//
// Rows are sorted by distance, nearest first. With linear weights (max distance - distance) a subset's weights depend
// on its farthest member only, so few base fits exist ("the r farthest rows are gone"); a replicate is one of them with
// further rows deleted. Deleting D from a fit with orthonormal basis Q, hat matrix H = QQ', whitened residual e and
// functionals G changes the functionals by -T_D (I - H_DD)^-1 e_D, T = GQ' (delete-d jackknife, Wu 1986), exactly. When
// the parameters outnumber the rows the minimum-norm fit interpolates, and the same formula holds with the inverse Gram
// matrix and the dual weights. A ridge fit (Hoerl and Kennard 1970) has such a hat matrix too: deletion at an unchanged
// penalty is exact, and I - H is never singular. Its penalty minimises the generalised cross-validation of Golub, Heath
// and Wahba (1979), with at most rows - 3 degrees of freedom.
#pragma once

#include <Eigen/Dense>
#include <cstdint>
#include <memory>
#include <vector>

#include "explain/lanes.h"
#include "tessera/explain/explain.h"

namespace tessera::explain {

using RowMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct PublishedProblem {
  Eigen::MatrixXd design;       // [rows, parameters] raw basis
  Eigen::VectorXd output;       // [rows]
  Eigen::VectorXd distance;     // [rows] ascending
  Eigen::MatrixXd functionals;  // [functionals, parameters]: what is read off the fit
  Weights weights = Weights::linear;
  UnderDetermined under_determined = UnderDetermined::minimum_norm;  // ridge: the first column must be the constant
};

// Sum of squared residuals + penalty x sum of (coefficient x scale)^2; the constant is free (scale 0).
struct Ridge {
  double penalty = 0;
  Eigen::VectorXd scale;  // [parameters] weighted standard deviation of each column
};

class PublishedFit {
 public:
  explicit PublishedFit(PublishedProblem problem);
  ~PublishedFit();

  // The functionals of the fit to all rows.
  const Eigen::VectorXd& estimate() const;

  // Bootstrap without replacement: [functionals, replicates]; each replicate refits `kept` rows. `scale`, when given,
  // receives each replicate's residual standard deviation (for studentised intervals; zero when the fit interpolates).
  RowMatrix replicate(int64_t kept, int64_t replicates, uint64_t seed, std::vector<double>* scale = nullptr) const;
  double residual_scale() const;

  // [functionals, rows]: change of each functional when that row is left out (delete-one).
  Eigen::MatrixXd delete_one() const;
  // [functionals, functionals] classical covariance; zero when the fit interpolates.
  Eigen::MatrixXd covariance() const;

  // When the fit is a ridge fit.
  const Ridge* ridge() const { return penalised_ ? &ridge_ : nullptr; }
  int64_t rank() const;             // ridge: degrees of freedom, rounded
  int64_t effective_rows() const;   // rows with positive weight
  double kish_rows() const;         // (sum w)^2 / sum w^2
  double condition() const;         // ratio of the largest to the smallest pivot of the design
  double leave_one_out_r2() const;  // NaN when outputs are flat

 private:
  struct Base;
  const Base& base(int64_t farthest_gone) const;
  std::unique_ptr<Base> primal(int64_t farthest_gone) const;
  std::unique_ptr<Base> dual() const;
  std::unique_ptr<Base> penalised(const Eigen::VectorXd& root, const std::vector<int64_t>& rows) const;
  Eigen::MatrixXd centred(const Eigen::VectorXd& root, const std::vector<int64_t>& rows,
                          Eigen::RowVectorXd& mean) const;
  void choose_ridge();
  Eigen::VectorXd refit(const std::vector<int32_t>& removed, int64_t farthest_gone) const;
  int64_t weighted_rows(int64_t farthest_gone) const;
  Eigen::VectorXd root_weights(int64_t farthest_gone) const;

  struct Replicate;
  class Batches;

  PublishedProblem problem_;
  mutable std::vector<std::unique_ptr<Base>> bases_;
  bool interpolates_ = false;
  bool penalised_ = false;
  Ridge ridge_;
  Eigen::VectorXd estimate_;
};

}  // namespace tessera::explain
