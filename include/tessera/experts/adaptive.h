// Asking only the experts an input needs.
//
//   Questioner questions(design, {});
//   for (int j = questions.next(); j >= 0; j = questions.next()) questions.tell(j, answer_of_expert(j));
//   questions.label();                           // what the deficit rule says after asking all of them
//
// Deficit of a class: how many of the asked experts that know it named another class. Guarantees:
//   same-label, deficit    the label equals that of the deficit rule on the answers of all experts, for all answers
//                whatsoever: it stops when no answers of the experts left can change the winner (g wins when deficit(g)
//                plus its experts left is below deficit(l) for every rival l; equal is enough where g lies in more
//                sets).
//   same-label, quadratic or balance  the same for the label of that rule on the probabilities of all experts, up to
//                its rounding; see SoftQuestioner.
//   in-set       equals the true class when at most `errors` of the experts that know the true class err and
//                lambda_min >= 2 errors + 1, whatever all others say: it stops when only one class has a deficit of at
//                most `errors`. Asks about half as many. When no class is left, the assumption was broken: the input is
//                then decided under same-label.
// The next expert is the one that knows the most classes still in the running, weighted 4^-deficit; once one class
// leads, one that knows the leader. Near (K - 1) / (R - 1) experts certify a class (spec of Ahn, Ozgur, Pilanci 2020:
// every class's sets hold all its rivals); the rest are spent on finding it.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "tessera/base/thread_pool.h"
#include "tessera/experts/answers.h"
#include "tessera/experts/combine.h"
#include "tessera/experts/design.h"
#include "tessera/experts/fit.h"

namespace tessera::experts {

enum class Guarantee { same_label, in_set };

const char* to_string(Guarantee guarantee);
// "same-label" or "in-set"; throws Error(invalid_argument).
Guarantee parse_guarantee(std::string_view name);

struct AdaptiveOptions {
  Guarantee guarantee = Guarantee::same_label;
  Rule rule = Rule::deficit;  // of same-label: deficit, quadratic or balance
  bool soft_ties = true;  // an equal deficit and degree is decided by probabilities (so all experts are asked); false:
                          // by the lower class number, as the deficit rule does on labels
  int errors = 0;         // of in-set: mistakes of experts that know the class, >= 0; needs lambda_min >= 2 errors + 1
};

// What the questioners of one design share.
class QuestionPlan {
 public:
  // Throws Error(invalid_argument) for negative errors, another rule, or in-set on a design whose pairs share too few
  // sets.
  QuestionPlan(const Design& design, const AdaptiveOptions& options);

 private:
  friend class Questioner;
  friend class SoftQuestioner;
  // The class of the least value, ties to the class in more sets, then to the lower number.
  template <typename Value>
  int32_t least(const std::vector<Value>& values) const;
  // The expert not done whose classes are worth most together, worth(class); of those that know a class, unless that is
  // -1. -1: there is none.
  template <typename Worth>
  int best_question(const std::vector<bool>& done, int32_t must_know, Worth worth) const;

  const Design& design_;
  AdaptiveOptions options_;
  std::vector<int32_t> degrees_;           // [classes]
  std::vector<int32_t> offsets_;           // [experts + 1]: columns of each expert's probabilities
  std::vector<std::vector<int>> sets_of_;  // [classes]: experts that know the class
};

// One input. O(sum R_j) per question.
class Questioner {
 public:
  explicit Questioner(const QuestionPlan& plan);

  // The expert to ask, or -1: decided.
  int next() const;
  // Its answer: a class of its set.
  void tell(int expert, int32_t label);
  // The class with the least deficit so far (then the larger degree, then the lower number).
  int32_t label() const;
  int asked() const { return asked_; }

 private:
  bool decided(int32_t leader) const;
  int best_question(int32_t must_know) const;

  const QuestionPlan& plan_;
  std::vector<int32_t> deficit_, left_;  // [classes]: deficit so far; experts that know it and were not asked
  std::vector<bool> done_;               // [experts]
  int asked_ = 0;
};

// One input, until the label of the quadratic or the balance rule is sure.
// quadratic: with f(pi) = sum_j sum_{i in S_j} (pi_i - p_j(i) pi(S_j))^2 over all experts, least at pi* (sum pi = 1),
//   - f(pi*) <= U, the least f of a pi on classes all of whose experts were asked: the others add nothing to it;
//   - a pi with pi_l >= pi_g costs at least L_l, its least cost over the asked experts alone, as no term is negative.
//   So g wins as soon as L_l > U for every other class l. Both are closed forms of K x K systems.
// balance: once all experts of g were asked, its chain leaves g at the rate out = sum_{j has g} (1 - p_j(g)) and comes
//   from l to g at the rate in_l = sum_{j has g and l} p_j(g), whatever the others say; hence pi_g >= in / (in + out)
//   with in the least in_l, and g wins as soon as in > out.
class SoftQuestioner {
 public:
  explicit SoftQuestioner(const QuestionPlan& plan);

  // The expert to ask, or -1: decided, or nobody is left to ask. Quadratic: O(K^3 + sum R_j^2) once all experts that
  // know the leading class were asked; balance: O(sum R_j).
  int next();
  // Its probabilities, one per class of its set.
  void tell(int expert, std::span<const float> probabilities);
  // After next() returned -1: the class of the rule; under balance with all experts asked, combine() has the last word.
  int32_t label() const { return winner_; }
  int asked() const { return asked_; }

 private:
  int32_t open_rival();
  int32_t quadratic_rival();
  int32_t balance_rival() const;
  int best_question(int32_t must_know) const;

  const QuestionPlan& plan_;
  std::vector<float> probabilities_;  // [columns] of the asked experts
  std::vector<double> doubt_;         // [classes]: sum of 1 - p_j over the asked experts that know it
  std::vector<int32_t> left_;         // [classes]: experts that know it and were not asked
  std::vector<bool> done_;            // [experts]
  int asked_ = 0;
  int32_t winner_ = 0;
};

struct AdaptiveResult {
  Answers answers;              // labels of the asked experts, -1 elsewhere; under a soft rule probabilities and
                                // a gate that is 0 where an expert was not asked, else no probabilities
  std::vector<int32_t> labels;  // [inputs]: under same-label, those of combine() with the rule on all answers
  std::vector<int32_t> asked;   // [inputs]: number of experts
};

// For answers that are there already: which of them were needed. Ties are soft where there are probabilities. Throws
// Error(invalid_argument) for gaps, or for labels without probabilities under a soft rule.
AdaptiveResult decide_adaptively(const Design& design, const Answers& answers, const AdaptiveOptions& options,
                                 ThreadPool* pool = nullptr);

// Asks the experts of an ensemble about rows [count, features], in rounds: each expert sees the rows that need it at
// once. O(asked experts), plus one batch per expert and round.
AdaptiveResult ask_adaptively(const Ensemble& ensemble, std::span<const float> rows, int64_t count,
                              const AdaptiveOptions& options, ThreadPool* pool = nullptr);

}  // namespace tessera::experts
