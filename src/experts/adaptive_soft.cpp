#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>

#include "experts/question_plan.h"
#include "experts/soft_rules.h"
#include "tessera/base/error.h"
#include "tessera/experts/adaptive.h"

namespace tessera::experts {
namespace {

using Form = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;

// Least value of pi' Q pi with sum pi = 1, given h = Q^-1 1: at pi = h / sum h.
double least_value(const Vector& h) { return 1 / h.sum(); }

}  // namespace

SoftQuestioner::SoftQuestioner(const QuestionPlan& plan)
    : plan_(plan),
      probabilities_(static_cast<size_t>(plan.offsets_.back())),
      doubt_(plan.degrees_.size(), 0),
      left_(plan.degrees_),
      done_(plan.design_.sets.size(), false) {}

void SoftQuestioner::tell(int expert, std::span<const float> probabilities) {
  const auto j = static_cast<size_t>(expert);
  TESSERA_ASSERT(!done_[j]);
  done_[j] = true;
  ++asked_;
  std::copy(probabilities.begin(), probabilities.end(), probabilities_.begin() + plan_.offsets_[j]);
  for (size_t k = 0; k < probabilities.size(); ++k) {
    const auto item = static_cast<size_t>(plan_.design_.sets[j][k]);
    --left_[item];
    doubt_[item] += 1 - static_cast<double>(probabilities[k]);
  }
}

// Sets winner_; returns the class that comes nearest to winning still, or -1 where none can.
int32_t SoftQuestioner::open_rival() {
  if (plan_.options_.rule == Rule::quadratic) return quadratic_rival();
  winner_ = plan_.least(doubt_);
  return asked_ == static_cast<int>(done_.size()) ? -1 : balance_rival();
}

int32_t SoftQuestioner::balance_rival() const {
  const auto g = static_cast<size_t>(winner_);
  std::vector<double> into(doubt_.size(), 0);  // [classes]: rate of the chain from the class to the winner
  for (const int j : plan_.sets_of_[g]) {
    const auto& set = plan_.design_.sets[static_cast<size_t>(j)];
    const auto place = std::lower_bound(set.begin(), set.end(), winner_) - set.begin();
    const auto p =
        static_cast<double>(probabilities_[static_cast<size_t>(plan_.offsets_[static_cast<size_t>(j)] + place)]);
    for (const int item : set) into[static_cast<size_t>(item)] += p;
  }
  into[g] = std::numeric_limits<double>::infinity();
  const auto least = std::min_element(into.begin(), into.end());
  // Beyond the bound by more than the rounding of single precision.
  if (*least > doubt_[g] + 1e-5) return -1;
  return static_cast<int32_t>(least - into.begin());
}

int32_t SoftQuestioner::quadratic_rival() {
  const auto classes = static_cast<Eigen::Index>(doubt_.size());
  Form form = Form::Identity(classes, classes) * kQuadraticRidge;
  for (size_t j = 0; j < done_.size(); ++j) {
    if (!done_[j]) continue;
    const auto& set = plan_.design_.sets[j];
    const float* p = probabilities_.data() + plan_.offsets_[j];
    double square = 0;
    for (size_t a = 0; a < set.size(); ++a) square += static_cast<double>(p[a]) * static_cast<double>(p[a]);
    for (size_t a = 0; a < set.size(); ++a) {
      form(set[a], set[a]) += 1;
      for (size_t b = 0; b < set.size(); ++b) {
        form(set[a], set[b]) += square - static_cast<double>(p[a]) - static_cast<double>(p[b]);
      }
    }
  }
  std::vector<Eigen::Index> known;  // classes all of whose experts were asked
  for (size_t i = 0; i < left_.size(); ++i) {
    if (left_[i] == 0) known.push_back(static_cast<Eigen::Index>(i));
  }
  const Form part = form(known, known);
  const Vector at_known = part.llt().solve(Vector::Ones(part.rows()));
  Eigen::Index place = 0;
  at_known.maxCoeff(&place);
  const Eigen::Index g = known[static_cast<size_t>(place)];
  winner_ = static_cast<int32_t>(g);
  if (asked_ == static_cast<int>(done_.size())) return -1;

  // Beyond the bound by more than the rounding of a form whose condition is at most about 1 / kQuadraticRidge.
  const double reached = least_value(at_known) * (1 + 1e-6) + 2 * kQuadraticRidge;
  const Form inverse = form.llt().solve(Form::Identity(classes, classes));
  const Vector h = inverse.rowwise().sum();
  int32_t rival = -1;
  double nearest = std::numeric_limits<double>::infinity();
  for (Eigen::Index l = 0; l < classes; ++l) {
    if (l == g) continue;
    const double ahead = h(g) - h(l);
    const double span = inverse(l, l) + inverse(g, g) - 2 * inverse(l, g);
    // With ahead > 0 the least value lies on pi_l = pi_g, else the constraint does not bind.
    const double least = ahead > 0 ? 1 / (h.sum() - ahead * ahead / span) : least_value(h);
    if (!(least > reached) && !(least >= nearest)) nearest = least, rival = static_cast<int32_t>(l);
  }
  return rival;
}

int SoftQuestioner::best_question(int32_t must_know) const {
  const double least = *std::min_element(doubt_.begin(), doubt_.end());
  return plan_.best_question(done_, must_know, [&](size_t item) { return std::exp2(2 * (least - doubt_[item])); });
}

int SoftQuestioner::next() {
  const int32_t first = plan_.least(doubt_);
  const double doubt = doubt_[static_cast<size_t>(first)];
  int32_t about = first;
  if (left_[static_cast<size_t>(first)] == 0) {
    about = open_rival();
    if (about < 0) return -1;
  } else if (std::count_if(doubt_.begin(), doubt_.end(), [&](double value) { return value < doubt + 0.5; }) > 1) {
    about = -1;
  }
  const int question = best_question(about);
  return question >= 0 ? question : best_question(-1);
}

}  // namespace tessera::experts
