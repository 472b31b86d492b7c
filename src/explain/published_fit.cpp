#include "explain/published_fit.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "tessera/base/error.h"
#include "tessera/base/random.h"

namespace tessera::explain {
namespace {

constexpr int64_t kPackedParameters = 64;  // more parameters: delete through the rows
constexpr double kRankTolerance = 1e-14;
constexpr int kPenaltySteps = 48;    // of a quarter decade, down from a hundred times the largest eigenvalue
constexpr double kLeastFreedom = 3;  // that a ridge fit leaves its residuals

// Operations of eight replicates. Through the rows: a Cholesky in eight lanes, whose entries are gathered one by one.
// Through the parameters: a smaller Cholesky, after summing one packed triangle per deleted row and lane, four numbers
// at a time.
bool rows_are_cheaper(int64_t deleted, int64_t parameters) {
  const int64_t rows = deleted * deleted * deleted / 3 + 6 * deleted * deleted;
  return rows <= parameters * parameters * parameters / 3 + deleted * parameters * parameters;
}

}  // namespace

struct PublishedFit::Base {
  int64_t rows = 0;  // that carry weight
  int64_t rank = 0;
  double freedom = 0;         // of the residuals; zero when the fit interpolates
  bool through_rows = false;  // deletions need `matrix`; there is no basis
  double condition = 1;
  Eigen::VectorXd estimate;            // [functionals]
  RowMatrix matrix;                    // [rows, rows] I - H (primal: on first use), or the inverse Gram matrix
  Eigen::VectorXd room;                // [rows] its diagonal
  Eigen::VectorXd residual;            // [rows] whitened residual, or the dual weights
  RowMatrix influence;                 // [functionals, rows]
  RowMatrix basis;                     // [rows, rank] orthonormal (primal)
  RowMatrix functional;                // [functionals, rank] (primal)
  std::vector<double> packed, moment;  // see ParameterProblem; filled on first use
  int64_t packed_stride = 0, moment_stride = 0;

  void fill_matrix() {
    if (matrix.size() > 0) return;
    matrix = -basis * basis.transpose();
    matrix.diagonal().array() += 1;
  }

  void pack() {
    if (!packed.empty()) return;
    packed_stride = (rank * (rank + 1) / 2 + 3) / 4 * 4;
    moment_stride = (rank + 3) / 4 * 4;
    packed.assign(static_cast<size_t>(rows * packed_stride), 0);
    moment.assign(static_cast<size_t>(rows * moment_stride), 0);
    for (int64_t i = 0; i < rows; ++i) {
      double* products = packed.data() + i * packed_stride;
      for (int64_t a = 0; a < rank; ++a) {
        for (int64_t b = 0; b <= a; ++b) *products++ = basis(i, a) * basis(i, b);
        moment[static_cast<size_t>(i * moment_stride + a)] = basis(i, a) * residual[i];
      }
    }
  }
};

// One bootstrap draw, expressed as rows to delete from a base fit.
struct PublishedFit::Replicate {
  int64_t farthest_gone = 0;
  std::vector<int32_t> deleted;
};

PublishedFit::PublishedFit(PublishedProblem problem) : problem_(std::move(problem)) {
  const int64_t rows = problem_.design.rows();
  TESSERA_ASSERT(rows >= 1 && problem_.output.size() == rows && problem_.distance.size() == rows);
  bases_.resize(static_cast<size_t>(rows) + 1);
  penalised_ = problem_.under_determined == UnderDetermined::ridge && problem_.design.cols() >= weighted_rows(0);
  if (penalised_) choose_ridge();
  if (!penalised_ && problem_.design.cols() >= weighted_rows(0)) {
    if (auto fit = dual(); fit != nullptr) {
      interpolates_ = true;
      bases_[0] = std::move(fit);
    }
  }
  const Base& full = base(0);
  estimate_ = full.estimate;
  if (interpolates_ && weighted_rows(0) < full.rows) {
    std::vector<int32_t> farthest;
    for (int64_t i = weighted_rows(0); i < full.rows; ++i) farthest.push_back(static_cast<int32_t>(i));
    const auto gone = static_cast<int64_t>(farthest.size());
    const Eigen::MatrixXd inner = full.matrix.bottomRightCorner(gone, gone);
    estimate_ -= full.influence.rightCols(gone) * inner.llt().solve(full.residual.tail(gone));
  }
}

PublishedFit::~PublishedFit() = default;

const Eigen::VectorXd& PublishedFit::estimate() const { return estimate_; }

int64_t PublishedFit::weighted_rows(int64_t farthest_gone) const {
  const int64_t kept = problem_.design.rows() - farthest_gone;
  if (problem_.weights == Weights::none) return kept;
  const double farthest = problem_.distance[kept - 1];
  int64_t rows = kept;
  while (rows > 0 && problem_.distance[rows - 1] == farthest) --rows;
  return rows == 0 ? kept : rows;  // all at one distance: equal weights
}

Eigen::VectorXd PublishedFit::root_weights(int64_t farthest_gone) const {
  const int64_t rows = weighted_rows(farthest_gone);
  const int64_t kept = problem_.design.rows() - farthest_gone;
  if (problem_.weights == Weights::none || rows == kept) return Eigen::VectorXd::Ones(rows);
  const double farthest = problem_.distance[kept - 1];
  const double range = farthest - problem_.distance[0];
  return ((farthest - problem_.distance.head(rows).array()) / range).sqrt();
}

const PublishedFit::Base& PublishedFit::base(int64_t farthest_gone) const {
  auto& slot = bases_[static_cast<size_t>(interpolates_ ? 0 : farthest_gone)];
  if (!slot && penalised_) {
    const Eigen::VectorXd root = root_weights(farthest_gone);
    std::vector<int64_t> rows(static_cast<size_t>(root.size()));
    std::iota(rows.begin(), rows.end(), 0);
    slot = penalised(root, rows);
  }
  if (!slot) slot = primal(farthest_gone);
  return *slot;
}

std::unique_ptr<PublishedFit::Base> PublishedFit::primal(int64_t farthest_gone) const {
  auto fit = std::make_unique<Base>();
  const Eigen::VectorXd root = root_weights(farthest_gone);
  fit->rows = root.size();
  const Eigen::VectorXd output = root.cwiseProduct(problem_.output.head(fit->rows));
  Eigen::ColPivHouseholderQR<Eigen::MatrixXd> qr;
  qr.setThreshold(kRankTolerance);
  qr.compute(root.asDiagonal() * problem_.design.topRows(fit->rows));
  fit->rank = qr.rank();
  const int64_t rank = fit->rank;
  fit->freedom = static_cast<double>(fit->rows - rank);
  fit->condition = rank > 0 ? std::abs(qr.matrixR()(0, 0) / qr.matrixR()(rank - 1, rank - 1)) : 1;
  Eigen::MatrixXd basis = Eigen::MatrixXd::Identity(fit->rows, rank);
  basis.applyOnTheLeft(qr.householderQ());
  if (rank == problem_.design.cols()) {
    const Eigen::MatrixXd permuted = problem_.functionals * qr.colsPermutation();
    fit->functional =
        qr.matrixR().topLeftCorner(rank, rank).triangularView<Eigen::Upper>().solve<Eigen::OnTheRight>(permuted);
  } else {
    Eigen::CompleteOrthogonalDecomposition<Eigen::MatrixXd> cod;
    cod.setThreshold(kRankTolerance);
    cod.compute(root.asDiagonal() * problem_.design.topRows(fit->rows));
    fit->functional = problem_.functionals * cod.solve(basis);
  }
  const Eigen::VectorXd coefficient = basis.transpose() * output;
  fit->estimate = fit->functional * coefficient;
  fit->residual = output - basis * coefficient;
  fit->room = 1 - basis.rowwise().squaredNorm().array();
  fit->influence = fit->functional * basis.transpose();
  fit->basis = std::move(basis);
  return fit;
}

std::unique_ptr<PublishedFit::Base> PublishedFit::dual() const {
  auto fit = std::make_unique<Base>();
  fit->through_rows = true;
  fit->rows = problem_.design.rows();
  if (problem_.design.cols() < fit->rows) return nullptr;
  const Eigen::MatrixXd transposed = problem_.design.transpose();  // [parameters, rows]
  const Eigen::HouseholderQR<Eigen::MatrixXd> qr(transposed);
  const auto upper = qr.matrixQR().topRows(fit->rows).triangularView<Eigen::Upper>();
  const Eigen::VectorXd pivots = qr.matrixQR().diagonal().cwiseAbs();
  fit->condition = pivots.maxCoeff() / pivots.minCoeff();
  if (!(pivots.minCoeff() > 1e-12 * pivots.maxCoeff())) return nullptr;  // dependent rows
  fit->rank = fit->rows;
  // Functionals on the row space: F Q, through Q' F' applied to the thin part.
  Eigen::MatrixXd rotated = problem_.functionals.transpose();
  rotated.applyOnTheLeft(qr.householderQ().adjoint());
  const Eigen::MatrixXd on_rows = rotated.topRows(fit->rows);  // [rows, functionals]
  fit->influence = upper.solve(on_rows).transpose();           // F X^+ = (R^-1 (FQ)')'
  const Eigen::MatrixXd inverse = upper.solve(Eigen::MatrixXd::Identity(fit->rows, fit->rows));
  fit->matrix = inverse * inverse.transpose();
  fit->room = fit->matrix.diagonal();
  fit->residual = fit->matrix * problem_.output;
  fit->estimate = fit->influence * problem_.output;
  return fit;
}

// Columns centred by the weights and scaled, whitened: with the constant free, the penalised fit lives on these.
Eigen::MatrixXd PublishedFit::centred(const Eigen::VectorXd& root, const std::vector<int64_t>& rows,
                                      Eigen::RowVectorXd& mean) const {
  const Eigen::VectorXd weight = root.cwiseAbs2() / root.squaredNorm();
  Eigen::MatrixXd columns = problem_.design(rows, Eigen::all);
  mean = weight.transpose() * columns;
  columns.rowwise() -= mean;
  for (int64_t j = 0; j < columns.cols(); ++j) columns.col(j) *= ridge_.scale[j] > 0 ? 1 / ridge_.scale[j] : 0.0;
  return root.asDiagonal() * columns;
}

void PublishedFit::choose_ridge() {
  const Eigen::VectorXd root = root_weights(0);
  std::vector<int64_t> rows(static_cast<size_t>(root.size()));
  std::iota(rows.begin(), rows.end(), 0);
  ridge_.scale = Eigen::VectorXd::Ones(problem_.design.cols());
  Eigen::RowVectorXd mean;
  const Eigen::VectorXd spread = (centred(root, rows, mean).colwise().norm() / root.norm()).transpose();
  // Rounding alone moves a constant column.
  const Eigen::VectorXd least = 1e-12 * mean.cwiseAbs().transpose();
  ridge_.scale = (spread.array() > least.array()).select(spread, 0);
  const Eigen::MatrixXd columns = centred(root, rows, mean);
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> spectrum(columns * columns.transpose());
  const Eigen::VectorXd value = spectrum.eigenvalues().cwiseMax(0);
  Eigen::VectorXd output = root.cwiseProduct(problem_.output.head(root.size()));
  output -= root * (root.dot(output) / root.squaredNorm());
  const Eigen::ArrayXd rotated = (spectrum.eigenvectors().transpose() * output).array();
  const double largest = value.maxCoeff();
  const auto count = static_cast<double>(root.size());
  double best = std::numeric_limits<double>::infinity();
  ridge_.penalty = std::max(largest, 1e-300) * 100;
  if (!(largest > 0)) return;  // no column varies
  for (int step = 0; step <= kPenaltySteps; ++step) {
    const double penalty = largest * std::pow(10.0, 2 - 0.25 * step);
    const Eigen::ArrayXd left = penalty / (value.array() + penalty);
    const double freedom = left.sum() - 1;  // the constant takes one
    if (freedom < kLeastFreedom && step > 0) break;
    const double score = (left * rotated).square().sum() * count / (freedom * freedom);
    if (score < best) {
      best = score;
      ridge_.penalty = penalty;
    }
  }
}

std::unique_ptr<PublishedFit::Base> PublishedFit::penalised(const Eigen::VectorXd& root,
                                                            const std::vector<int64_t>& rows) const {
  auto fit = std::make_unique<Base>();
  fit->through_rows = true;
  fit->rows = root.size();
  Eigen::RowVectorXd mean;
  const Eigen::MatrixXd columns = centred(root, rows, mean);
  Eigen::MatrixXd gram = columns * columns.transpose();
  gram.diagonal().array() += ridge_.penalty;
  const Eigen::LLT<Eigen::MatrixXd> factor(gram);
  const Eigen::VectorXd constant = root / root.norm();
  // I - H = penalty (ZZ' + penalty)^-1 without the constant's direction, in which Z is zero.
  fit->matrix = ridge_.penalty * factor.solve(Eigen::MatrixXd::Identity(fit->rows, fit->rows));
  fit->matrix -= constant * constant.transpose();
  fit->room = fit->matrix.diagonal();
  fit->freedom = fit->room.sum();
  fit->rank = fit->rows - static_cast<int64_t>(std::lround(fit->freedom));
  Eigen::MatrixXd centred_functionals = problem_.functionals - problem_.functionals.col(0) * mean;
  for (int64_t j = 0; j < centred_functionals.cols(); ++j)
    centred_functionals.col(j) *= ridge_.scale[j] > 0 ? 1 / ridge_.scale[j] : 0.0;
  fit->influence = problem_.functionals.col(0) * (root / root.squaredNorm()).transpose() +
                   factor.solve(columns * centred_functionals.transpose()).transpose();
  Eigen::VectorXd output(fit->rows);
  for (int64_t i = 0; i < fit->rows; ++i) output[i] = root[i] * problem_.output[rows[static_cast<size_t>(i)]];
  fit->residual = fit->matrix * output;
  fit->estimate = fit->influence * output;
  const Eigen::VectorXd pivots = Eigen::MatrixXd(factor.matrixL()).diagonal();
  fit->condition = pivots.maxCoeff() / pivots.minCoeff();
  return fit;
}

// Collects replicates of one (base, size) until the lanes are full.
class PublishedFit::Batches {
 public:
  Batches(const PublishedFit& fit, RowMatrix& out, std::vector<double>* scale) : fit_(fit), out_(out), scale_(scale) {}

  void add(int64_t index, Replicate replicate) {
    auto& group = groups_[{replicate.farthest_gone, replicate.deleted.size()}];
    group.push_back({index, std::move(replicate)});
    if (group.size() == kLanes) run(group);
  }
  void finish() {
    for (auto& [key, group] : groups_) run(group);
  }

 private:
  struct Item {
    int64_t index;
    Replicate replicate;
  };

  void run(std::vector<Item>& group) {
    if (group.empty()) return;
    const Base& base = fit_.base(group[0].replicate.farthest_gone);
    const auto size = static_cast<int64_t>(group[0].replicate.deleted.size());
    const int64_t functionals = base.influence.rows();
    sets_.resize(static_cast<size_t>(size * kLanes));
    for (int64_t i = 0; i < size; ++i) {
      for (size_t lane = 0; lane < kLanes; ++lane) {
        const Replicate& source = group[std::min(lane, group.size() - 1)].replicate;
        sets_[static_cast<size_t>(i) * kLanes + lane] = source.deleted[static_cast<size_t>(i)];
      }
    }
    change_.resize(static_cast<size_t>((functionals + 1) * kLanes));
    const unsigned failed = solve(const_cast<Base&>(base), size, functionals);
    for (size_t lane = 0; lane < group.size(); ++lane) {
      if ((failed >> lane) & 1U) {
        out_.col(group[lane].index) = fit_.refit(group[lane].replicate.deleted, group[lane].replicate.farthest_gone);
        continue;
      }
      for (int64_t f = 0; f < functionals; ++f) {
        out_(f, group[lane].index) = base.estimate[f] - change_[static_cast<size_t>(f * kLanes) + lane];
      }
      if (scale_ != nullptr) {
        const double squares = base.residual.squaredNorm() - change_[static_cast<size_t>(functionals * kLanes) + lane];
        const double freedom = base.freedom - static_cast<double>(size);
        (*scale_)[static_cast<size_t>(group[lane].index)] = std::sqrt(std::max(squares, 0.0) / std::max(freedom, 1.0));
      }
    }
    group.clear();
  }

  unsigned solve(Base& base, int64_t size, int64_t functionals) {
    if (base.through_rows || base.rank > kPackedParameters || scale_ != nullptr || rows_are_cheaper(size, base.rank)) {
      base.fill_matrix();
      scratch_.resize(static_cast<size_t>(deletion_scratch(size)));
      DeletionProblem problem{base.matrix.data(), base.residual.data(), base.influence.data(), base.rows, functionals};
      RowMatrix extended;
      if (scale_ != nullptr) {  // the residual as one more functional gives the change of the sum of squares
        extended.resize(functionals + 1, base.rows);
        extended << base.influence, base.residual.transpose();
        problem.influence = extended.data();
        problem.functionals = functionals + 1;
      }
      return lanes().delete_rows(problem, sets_.data(), size, change_.data(), scratch_.data());
    }
    base.pack();
    scratch_.resize(static_cast<size_t>(parameter_scratch(base.rank, base.packed_stride, base.moment_stride)));
    const ParameterProblem problem{base.packed.data(), base.moment.data(), base.functional.data(),
                                   base.rank,          base.packed_stride, base.moment_stride,
                                   functionals};
    return lanes().delete_by_parameters(problem, sets_.data(), size, change_.data(), scratch_.data());
  }

  const PublishedFit& fit_;
  RowMatrix& out_;
  std::vector<double>* scale_;
  std::map<std::pair<int64_t, size_t>, std::vector<Item>> groups_;
  std::vector<int32_t> sets_;
  std::vector<double> change_, scratch_;
};

RowMatrix PublishedFit::replicate(int64_t kept, int64_t replicates, uint64_t seed, std::vector<double>* scale) const {
  const int64_t rows = problem_.design.rows();
  RowMatrix out(problem_.functionals.rows(), replicates);
  if (scale != nullptr) scale->assign(static_cast<size_t>(replicates), 0);
  const Random random(seed);
  std::vector<int32_t> all(static_cast<size_t>(rows)), order;
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
  std::vector<char> gone(all.size());
  Batches batches(*this, out, scale);
  for (int64_t index = 0; index < replicates; ++index) {
    Random draw = random.split(static_cast<uint64_t>(index));
    order = all;
    std::fill(gone.begin(), gone.end(), 0);
    for (int64_t i = 0; i < rows - kept; ++i) {
      std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(i + draw.below(rows - i))]);
      gone[static_cast<size_t>(order[static_cast<size_t>(i)])] = 1;
    }
    Replicate replicate;
    while (problem_.weights == Weights::linear && gone[static_cast<size_t>(rows - 1 - replicate.farthest_gone)]) {
      ++replicate.farthest_gone;
    }
    const int64_t weighted = weighted_rows(replicate.farthest_gone);
    const int64_t base_rows = interpolates_ ? rows : weighted;
    for (int64_t i = 0; i < base_rows; ++i) {
      if (gone[static_cast<size_t>(i)] || i >= weighted) replicate.deleted.push_back(static_cast<int32_t>(i));
    }
    batches.add(index, std::move(replicate));
  }
  batches.finish();
  return out;
}

Eigen::VectorXd PublishedFit::refit(const std::vector<int32_t>& removed, int64_t farthest_gone) const {
  const Eigen::VectorXd root = root_weights(farthest_gone);
  std::vector<int64_t> kept;
  for (int64_t i = 0; i < root.size(); ++i) {
    if (!std::binary_search(removed.begin(), removed.end(), static_cast<int32_t>(i))) kept.push_back(i);
  }
  if (kept.empty()) return Eigen::VectorXd::Zero(problem_.functionals.rows());
  if (penalised_) return penalised(root(kept), kept)->estimate;
  Eigen::MatrixXd design(static_cast<int64_t>(kept.size()), problem_.design.cols());
  Eigen::VectorXd output(design.rows());
  for (int64_t i = 0; i < design.rows(); ++i) {
    const int64_t row = kept[static_cast<size_t>(i)];
    design.row(i) = root[row] * problem_.design.row(row);
    output[i] = root[row] * problem_.output[row];
  }
  Eigen::CompleteOrthogonalDecomposition<Eigen::MatrixXd> cod;
  cod.setThreshold(kRankTolerance);
  cod.compute(design);
  return problem_.functionals * cod.solve(output);
}

Eigen::MatrixXd PublishedFit::delete_one() const {
  const Base& full = base(0);
  Eigen::MatrixXd change(full.influence.rows(), full.rows);
  for (int64_t i = 0; i < full.rows; ++i) {
    const double room = full.room[i];
    change.col(i) = full.influence.col(i) * (room > 1e-12 ? full.residual[i] / room : 0.0);
  }
  return change;
}

Eigen::MatrixXd PublishedFit::covariance() const {
  const Base& full = base(0);
  const double scale = residual_scale();
  return scale * scale * full.influence * full.influence.transpose();
}

double PublishedFit::residual_scale() const {
  const Base& full = base(0);
  return full.freedom > 0 ? full.residual.norm() / std::sqrt(full.freedom) : 0;
}

int64_t PublishedFit::rank() const { return base(0).rank; }
int64_t PublishedFit::effective_rows() const { return weighted_rows(0); }
double PublishedFit::condition() const { return base(0).condition; }

double PublishedFit::kish_rows() const {
  const Eigen::ArrayXd weight = root_weights(0).array().square();
  return weight.sum() * weight.sum() / weight.square().sum();
}

double PublishedFit::leave_one_out_r2() const {
  const Base& full = base(0);
  const Eigen::VectorXd root = interpolates_ ? Eigen::VectorXd::Ones(full.rows).eval() : root_weights(0);
  const Eigen::ArrayXd weight = root.array().square();
  const Eigen::ArrayXd output = problem_.output.head(full.rows).array();
  const double mean = (weight * output).sum() / weight.sum();
  const double total = (weight * (output - mean).square()).sum();
  double left = 0;
  for (int64_t i = 0; i < full.rows; ++i) {
    const double room = full.room[i];
    if (room > 1e-12) left += full.residual[i] / room * (full.residual[i] / room);
  }
  return total > 1e-300 ? 1 - left / total : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace tessera::explain
