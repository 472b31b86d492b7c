#include "tessera/experts/combine.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "experts/hard_rules.h"
#include "experts/soft_rules.h"
#include "tessera/base/error.h"

namespace tessera::experts {
namespace {

constexpr std::array kRules = {Rule::plurality,     Rule::deficit,  Rule::votes_per_degree,
                               Rule::naive_bayes,   Rule::soft_sum, Rule::log_linear,
                               Rule::bradley_terry, Rule::balance,  Rule::quadratic};

bool is_soft(Rule rule) { return rule >= Rule::soft_sum; }

void check_options(const CombineOptions& options) {
  if (!(options.in_set_error > 0 && options.in_set_error < 1)) {
    throw Error(ErrorCode::invalid_argument, "in_set_error: expected a share between 0 and 1, found {}",
                options.in_set_error);
  }
  if (options.steps < 1)
    throw Error(ErrorCode::invalid_argument, "steps: expected at least 1, found {}", options.steps);
  if (!(options.temperature > 0) || !std::isfinite(options.temperature)) {
    throw Error(ErrorCode::invalid_argument, "temperature: expected a positive number, found {}", options.temperature);
  }
}

// Classes that no chain of shared sets links to class 0 cannot be compared with it.
void check_connected(const Design& design, Rule rule) {
  std::vector<bool> reached(static_cast<size_t>(design.classes), false);
  std::vector<bool> used(design.sets.size(), false);
  std::vector<int> queue{0};
  reached[0] = true;
  while (!queue.empty()) {
    const int item = queue.back();
    queue.pop_back();
    for (size_t j = 0; j < design.sets.size(); ++j) {
      const auto& set = design.sets[j];
      if (used[j] || !std::binary_search(set.begin(), set.end(), item)) continue;
      used[j] = true;
      for (const int other : set) {
        if (!reached[static_cast<size_t>(other)]) queue.push_back(other);
        reached[static_cast<size_t>(other)] = true;
      }
    }
  }
  const auto missing = std::find(reached.begin(), reached.end(), false);
  if (missing != reached.end()) {
    throw Error(
        ErrorCode::invalid_argument,
        "{}: no chain of shared sets links classes 0 and {}, so their probabilities cannot be compared; use the "
        "rule deficit or add a set that joins them",
        to_string(rule), missing - reached.begin());
  }
}

// Hard labels as probabilities: 1 - eps on the label, eps / (R - 1) on the others of the set.
std::vector<float> soften(const Design& design, const Answers& answers, const CombineOptions& options) {
  const size_t experts = design.sets.size();
  std::vector<float> result;
  result.reserve(static_cast<size_t>(answers.inputs * answer_columns(design)));
  for (size_t i = 0; i < static_cast<size_t>(answers.inputs); ++i) {
    for (size_t j = 0; j < experts; ++j) {
      const auto& set = design.sets[j];
      const int32_t label = answers.labels[i * experts + j];
      const double others = set.size() > 1 ? options.in_set_error / static_cast<double>(set.size() - 1) : 0;
      for (const int item : set) {
        const double value = label < 0       ? 1.0 / static_cast<double>(set.size())
                             : item == label ? 1 - others * static_cast<double>(set.size() - 1)
                                             : others;
        result.push_back(static_cast<float>(value));
      }
    }
  }
  return result;
}

void refuse_unasked(const Answers& answers, Rule rule) {
  if (std::find(answers.labels.begin(), answers.labels.end(), -1) != answers.labels.end()) {
    throw Error(ErrorCode::invalid_argument,
                "{}: some experts were not asked about some inputs; use deficit, votes-per-degree or naive-bayes",
                to_string(rule));
  }
}

void combine_soft(const Design& design, const Answers& answers, const CombineOptions& options, Combination& result) {
  check_connected(design, options.rule);
  const std::vector<int32_t> offsets = answer_offsets(design);
  std::vector<int32_t> members;
  for (const auto& set : design.sets) members.insert(members.end(), set.begin(), set.end());
  const std::vector<int32_t> degrees = class_degrees(design);
  const std::vector<float> degree(degrees.begin(), degrees.end());
  std::vector<float> softened, inverse;
  if (answers.probabilities.empty()) {
    refuse_unasked(answers, options.rule);
    softened = soften(design, answers, options);
  }
  if (options.rule == Rule::log_linear) inverse = laplacian_inverse(design);
  SoftProblem problem{.rule = options.rule,
                      .classes = design.classes,
                      .experts = static_cast<int32_t>(design.sets.size()),
                      .columns = offsets.back(),
                      .steps = options.steps,
                      .offset = offsets.data(),
                      .member = members.data(),
                      .degree = degree.data(),
                      .inverse = inverse.data(),
                      .probabilities = softened.empty() ? answers.probabilities.data() : softened.data(),
                      .gate = answers.gate.empty() ? nullptr : answers.gate.data(),
                      .result = result.probabilities.data()};
  ThreadPool& pool = options.pool != nullptr ? *options.pool : ThreadPool::shared();
  pool.parallel_for(0, answers.inputs, 256, [&](int64_t begin, int64_t end, int) { soft_rule(problem, begin, end); });
  for (size_t i = 0; i < static_cast<size_t>(result.inputs); ++i) {
    const float* row = result.probabilities.data() + i * static_cast<size_t>(result.classes);
    result.labels[i] = static_cast<int32_t>(std::max_element(row, row + result.classes) - row);
  }
}

}  // namespace

const char* to_string(Rule rule) {
  switch (rule) {
    case Rule::plurality:
      return "plurality";
    case Rule::deficit:
      return "deficit";
    case Rule::votes_per_degree:
      return "votes-per-degree";
    case Rule::naive_bayes:
      return "naive-bayes";
    case Rule::soft_sum:
      return "soft-sum";
    case Rule::log_linear:
      return "log-linear";
    case Rule::bradley_terry:
      return "bradley-terry";
    case Rule::balance:
      return "balance";
    case Rule::quadratic:
      return "quadratic";
  }
  return "?";
}

std::span<const Rule> all_rules() { return kRules; }

Rule parse_rule(std::string_view name) {
  std::string names;
  for (const Rule rule : kRules) {
    if (name == to_string(rule)) return rule;
    names += (names.empty() ? "" : ", ") + std::string(to_string(rule));
  }
  throw Error(ErrorCode::invalid_argument, "unknown rule '{}'; expected one of {}", name, names);
}

std::vector<std::pair<int, int>> unsafe_for_plurality(const Design& design) {
  const std::vector<int32_t> degrees = class_degrees(design);
  const auto classes = static_cast<size_t>(design.classes);
  std::vector<int32_t> shared(classes * classes, 0);
  for (const auto& set : design.sets) {
    for (const int a : set) {
      for (const int b : set) ++shared[static_cast<size_t>(a) * classes + static_cast<size_t>(b)];
    }
  }
  std::vector<std::pair<int, int>> pairs;
  for (size_t y = 0; y < classes; ++y) {
    for (size_t l = 0; l < classes; ++l) {
      if (l != y && degrees[y] <= degrees[l] - shared[y * classes + l]) {
        pairs.emplace_back(static_cast<int>(y), static_cast<int>(l));
      }
    }
  }
  return pairs;
}

Combination combine(const Design& design, const Answers& answers, const CombineOptions& options) {
  check_design(design);
  check_options(options);
  Combination result;
  result.inputs = answers.inputs;
  result.classes = design.classes;
  result.labels.resize(static_cast<size_t>(answers.inputs));
  result.probabilities.resize(static_cast<size_t>(answers.inputs) * static_cast<size_t>(design.classes));
  if (options.rule == Rule::plurality) {
    if (const auto pairs = unsafe_for_plurality(design); !pairs.empty()) {
      result.warnings.push_back(
          fmt::format("plurality is unsafe on this design: for {} ordered pairs of classes, for example {} against {}, "
                      "votes of experts that do not know the input's class can outvote the truth; use deficit",
                      pairs.size(), pairs[0].first, pairs[0].second));
    }
  }
  if (answers.inputs == 0) return result;
  if (is_soft(options.rule)) {
    combine_soft(design, answers, options, result);
  } else {
    const std::vector<int32_t> labels =
        answers.labels.empty() ? most_probable(design, answers) : std::vector<int32_t>();
    combine_hard(design, answers, answers.labels.empty() ? labels : answers.labels, options, result);
  }
  if (options.temperature != 1) apply_temperature(result.probabilities, result.classes, options.temperature);
  return result;
}

}  // namespace tessera::experts
