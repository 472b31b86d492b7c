#include "tessera/experts/adaptive.h"

#include <algorithm>

#include "experts/question_plan.h"
#include "tessera/base/error.h"

namespace tessera::experts {

const char* to_string(Guarantee guarantee) { return guarantee == Guarantee::in_set ? "in-set" : "same-label"; }

Guarantee parse_guarantee(std::string_view name) {
  for (const Guarantee guarantee : {Guarantee::same_label, Guarantee::in_set}) {
    if (name == to_string(guarantee)) return guarantee;
  }
  throw Error(ErrorCode::invalid_argument, "unknown guarantee '{}'; expected same-label or in-set", name);
}

QuestionPlan::QuestionPlan(const Design& design, const AdaptiveOptions& options)
    : design_(design), options_(options), degrees_(class_degrees(design)), offsets_(answer_offsets(design)) {
  check_design(design);
  if (options.rule != Rule::deficit && options.rule != Rule::quadratic && options.rule != Rule::balance) {
    throw Error(ErrorCode::invalid_argument,
                "same-label: expected the rule deficit, quadratic or balance, whose label can be known early, found {}",
                to_string(options.rule));
  }
  if (options.errors < 0) {
    throw Error(ErrorCode::invalid_argument, "errors: expected at least 0, found {}", options.errors);
  }
  if (options.guarantee == Guarantee::in_set && design.classes > 1) {
    const int lambda = count_pairs(design).lambda_min;
    if (lambda < 2 * options.errors + 1) {
      throw Error(
          ErrorCode::invalid_argument,
          "in-set with {} errors: expected every two classes to share {} sets, found a pair that shares {}; use "
          "same-label",
          options.errors, 2 * options.errors + 1, lambda);
    }
  }
  sets_of_.resize(static_cast<size_t>(design.classes));
  for (size_t j = 0; j < design.sets.size(); ++j) {
    for (const int item : design.sets[j]) sets_of_[static_cast<size_t>(item)].push_back(static_cast<int>(j));
  }
}

Questioner::Questioner(const QuestionPlan& plan)
    : plan_(plan), deficit_(plan.degrees_.size(), 0), left_(plan.degrees_), done_(plan.design_.sets.size(), false) {}

int32_t Questioner::label() const { return plan_.least(deficit_); }

bool Questioner::decided(int32_t leader) const {
  const auto g = static_cast<size_t>(leader);
  if (plan_.options_.guarantee == Guarantee::in_set) {
    const auto alive = std::count_if(deficit_.begin(), deficit_.end(),
                                     [&](int32_t deficit) { return deficit <= plan_.options_.errors; });
    if (alive == 1) return true;
    if (alive > 1) return false;
  }
  const int32_t worst = deficit_[g] + left_[g];
  for (size_t i = 0; i < deficit_.size(); ++i) {
    if (i == g || worst < deficit_[i]) continue;
    if (worst > deficit_[i] || plan_.degrees_[g] < plan_.degrees_[i]) return false;
    if (plan_.degrees_[g] == plan_.degrees_[i] && (plan_.options_.soft_ties || g > i)) return false;
  }
  return true;
}

int Questioner::best_question(int32_t must_know) const {
  const int32_t least = *std::min_element(deficit_.begin(), deficit_.end());
  return plan_.best_question(done_, must_know, [&](size_t item) {
    return 1.0 / static_cast<double>(int64_t{1} << std::min(60, 2 * (deficit_[item] - least)));
  });
}

int Questioner::next() const {
  const int32_t leader = label();
  if (asked_ == static_cast<int>(done_.size()) || decided(leader)) return -1;
  const auto level = std::count(deficit_.begin(), deficit_.end(), deficit_[static_cast<size_t>(leader)]);
  const int about_leader = level == 1 ? best_question(leader) : -1;
  return about_leader >= 0 ? about_leader : best_question(-1);
}

void Questioner::tell(int expert, int32_t label) {
  TESSERA_ASSERT(!done_[static_cast<size_t>(expert)]);
  done_[static_cast<size_t>(expert)] = true;
  ++asked_;
  for (const int item : plan_.design_.sets[static_cast<size_t>(expert)]) {
    --left_[static_cast<size_t>(item)];
    if (item != label) ++deficit_[static_cast<size_t>(item)];
  }
}

namespace {

bool is_soft(const AdaptiveOptions& options) {
  return options.guarantee == Guarantee::same_label && options.rule != Rule::deficit;
}

Rule rule_of(const AdaptiveOptions& options) { return is_soft(options) ? options.rule : Rule::deficit; }

// Inputs about which all experts were asked get the label of the rule on all answers, ties included.
// probabilities: [inputs, columns] where they are known.
void settle_ties(const Design& design, const std::vector<float>& probabilities, Rule rule, AdaptiveResult& result) {
  const size_t experts = design.sets.size(), columns = static_cast<size_t>(answer_columns(design));
  std::vector<size_t> whole;
  Answers answers;
  for (size_t i = 0; i < result.asked.size(); ++i) {
    if (result.asked[i] < static_cast<int32_t>(experts)) continue;
    whole.push_back(i);
    const auto labels = result.answers.labels.begin() + static_cast<std::ptrdiff_t>(i * experts);
    answers.labels.insert(answers.labels.end(), labels, labels + static_cast<std::ptrdiff_t>(experts));
    const auto row = probabilities.begin() + static_cast<std::ptrdiff_t>(i * columns);
    answers.probabilities.insert(answers.probabilities.end(), row, row + static_cast<std::ptrdiff_t>(columns));
  }
  answers.inputs = static_cast<int64_t>(whole.size());
  const Combination full = combine(design, answers, {.rule = rule});
  for (size_t k = 0; k < whole.size(); ++k) result.labels[whole[k]] = full.labels[k];
}

// Probabilities of the asked experts beside their labels; the others say nothing (uniform, weight 0).
void keep_probabilities(const Design& design, std::vector<float> probabilities, AdaptiveResult& result) {
  const std::vector<int32_t> offsets = answer_offsets(design);
  const auto columns = static_cast<size_t>(offsets.back());
  for (size_t k = 0; k < result.answers.labels.size(); ++k) {
    const bool asked = result.answers.labels[k] >= 0;
    result.answers.gate.push_back(asked ? 1.0F : 0.0F);
    if (asked) continue;
    const size_t j = k % design.sets.size(), size = design.sets[j].size();
    std::fill_n(probabilities.begin() + static_cast<std::ptrdiff_t>(k / design.sets.size() * columns) + offsets[j],
                size, 1.0F / static_cast<float>(size));
  }
  result.answers.probabilities = std::move(probabilities);
}

// tell(questions, input, expert) gives a questioner the answer.
template <typename Questions, typename Tell>
void decide_all(const QuestionPlan& plan, ThreadPool& workers, Tell tell, AdaptiveResult& result) {
  workers.parallel_for(0, result.answers.inputs, 256, [&](int64_t begin, int64_t end, int) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      Questions questions(plan);
      for (int j = questions.next(); j >= 0; j = questions.next()) tell(questions, i, static_cast<size_t>(j));
      result.labels[i] = questions.label();
      result.asked[i] = questions.asked();
    }
  });
}

}  // namespace

AdaptiveResult decide_adaptively(const Design& design, const Answers& answers, const AdaptiveOptions& options,
                                 ThreadPool* pool) {
  AdaptiveOptions chosen = options;
  chosen.soft_ties = options.soft_ties && !answers.probabilities.empty();
  const QuestionPlan plan(design, chosen);
  const size_t experts = design.sets.size(), inputs = static_cast<size_t>(answers.inputs);
  if (is_soft(options) && answers.probabilities.empty()) {
    throw Error(ErrorCode::invalid_argument,
                "same-label of a soft rule needs the experts' probabilities, found labels; use the rule deficit");
  }
  const std::vector<int32_t> all = answers.labels.empty() ? most_probable(design, answers) : answers.labels;
  if (std::find(all.begin(), all.end(), -1) != all.end()) {
    throw Error(ErrorCode::invalid_argument, "adaptive evaluation needs the answers of all experts, found gaps");
  }
  AdaptiveResult result{.answers = {.inputs = answers.inputs}, .labels = {}, .asked = {}};
  result.answers.labels.assign(inputs * experts, -1);
  result.labels.resize(inputs), result.asked.resize(inputs);
  ThreadPool& workers = pool != nullptr ? *pool : ThreadPool::shared();
  const auto note = [&](size_t i, size_t j) { return result.answers.labels[i * experts + j] = all[i * experts + j]; };
  if (is_soft(options)) {
    const std::vector<int32_t> offsets = answer_offsets(design);
    const auto columns = static_cast<size_t>(offsets.back());
    const auto tell = [&](SoftQuestioner& questions, size_t i, size_t j) {
      note(i, j);
      questions.tell(static_cast<int>(j),
                     std::span(answers.probabilities)
                         .subspan(i * columns + static_cast<size_t>(offsets[j]), design.sets[j].size()));
    };
    decide_all<SoftQuestioner>(plan, workers, tell, result);
  } else {
    const auto tell = [&](Questioner& questions, size_t i, size_t j) {
      questions.tell(static_cast<int>(j), note(i, j));
    };
    decide_all<Questioner>(plan, workers, tell, result);
  }
  if (chosen.soft_ties || is_soft(options)) settle_ties(design, answers.probabilities, rule_of(options), result);
  if (is_soft(options)) keep_probabilities(design, answers.probabilities, result);
  return result;
}

namespace {

// The rows that wait for one expert, asked at once.
void ask_round(const Ensemble& ensemble, size_t expert, const std::vector<int64_t>& waiting,
               std::span<const float> rows, std::vector<float>& known, AdaptiveResult& result) {
  const auto& set = ensemble.design.sets[expert];
  const auto width = static_cast<size_t>(ensemble.experts[expert]->features());
  const std::vector<int32_t> offsets = answer_offsets(ensemble.design);
  std::vector<float> batch, probabilities(waiting.size() * set.size());
  for (const int64_t i : waiting) {
    const auto row = rows.subspan(static_cast<size_t>(i) * width, width);
    batch.insert(batch.end(), row.begin(), row.end());
  }
  ensemble.experts[expert]->predict(batch, probabilities, {});
  for (size_t k = 0; k < waiting.size(); ++k) {
    const float* p = probabilities.data() + k * set.size();
    const auto place = static_cast<size_t>(std::max_element(p, p + set.size()) - p);
    std::copy_n(p, set.size(), known.data() + waiting[k] * offsets.back() + offsets[expert]);
    result.answers.labels[static_cast<size_t>(waiting[k]) * ensemble.design.sets.size() + expert] = set[place];
  }
}

// Rounds of questions about all rows; known: [count, columns], filled where an expert was asked.
// tell(questions, input, expert) gives a questioner the answer that is in `known` and in the result.
template <typename Questions, typename Tell>
void ask_all(const Ensemble& ensemble, const QuestionPlan& plan, std::span<const float> rows, ThreadPool& workers,
             std::vector<float>& known, Tell tell, AdaptiveResult& result) {
  const size_t experts = ensemble.design.sets.size();
  std::vector<Questions> questions(static_cast<size_t>(result.answers.inputs), Questions(plan));
  while (true) {
    std::vector<int> wanted(questions.size());
    workers.parallel_for(0, result.answers.inputs, 64, [&](int64_t begin, int64_t end, int) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) wanted[i] = questions[i].next();
    });
    std::vector<std::vector<int64_t>> waiting(experts);
    bool any = false;
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (wanted[i] < 0) continue;
      waiting[static_cast<size_t>(wanted[i])].push_back(static_cast<int64_t>(i));
      any = true;
    }
    if (!any) break;
    workers.parallel_for(0, static_cast<int64_t>(experts), 1, [&](int64_t begin, int64_t end, int) {
      for (auto j = static_cast<size_t>(begin); j < static_cast<size_t>(end); ++j) {
        if (!waiting[j].empty()) ask_round(ensemble, j, waiting[j], rows, known, result);
      }
    });
    for (size_t j = 0; j < experts; ++j) {
      for (const int64_t i : waiting[j]) tell(questions[static_cast<size_t>(i)], static_cast<size_t>(i), j);
    }
  }
  for (const Questions& question : questions) {
    result.labels.push_back(question.label());
    result.asked.push_back(question.asked());
  }
}

}  // namespace

AdaptiveResult ask_adaptively(const Ensemble& ensemble, std::span<const float> rows, int64_t count,
                              const AdaptiveOptions& options, ThreadPool* pool) {
  const QuestionPlan plan(ensemble.design, options);
  const size_t experts = ensemble.design.sets.size(), inputs = static_cast<size_t>(count);
  for (const auto& expert : ensemble.experts) {
    if (static_cast<size_t>(expert->features() * count) != rows.size()) {
      throw Error(ErrorCode::invalid_argument, "the experts were trained on {} features, the input has {}",
                  expert->features(), count > 0 ? static_cast<int64_t>(rows.size()) / count : 0);
    }
  }
  AdaptiveResult result{.answers = {.inputs = count}, .labels = {}, .asked = {}};
  result.answers.labels.assign(inputs * experts, -1);
  const std::vector<int32_t> offsets = answer_offsets(ensemble.design);
  const auto columns = static_cast<size_t>(offsets.back());
  std::vector<float> known(inputs * columns);
  ThreadPool& workers = pool != nullptr ? *pool : ThreadPool::shared();
  if (is_soft(options)) {
    const auto tell = [&](SoftQuestioner& questions, size_t i, size_t j) {
      questions.tell(static_cast<int>(j), std::span(known).subspan(i * columns + static_cast<size_t>(offsets[j]),
                                                                   ensemble.design.sets[j].size()));
    };
    ask_all<SoftQuestioner>(ensemble, plan, rows, workers, known, tell, result);
  } else {
    const auto tell = [&](Questioner& questions, size_t i, size_t j) {
      questions.tell(static_cast<int>(j), result.answers.labels[i * experts + j]);
    };
    ask_all<Questioner>(ensemble, plan, rows, workers, known, tell, result);
  }
  if (options.soft_ties || is_soft(options)) settle_ties(ensemble.design, known, rule_of(options), result);
  if (is_soft(options)) keep_probabilities(ensemble.design, std::move(known), result);
  return result;
}

}  // namespace tessera::experts
