#include <fmt/ranges.h>

#include <array>
#include <utility>

#include "tessera/base/error.h"
#include "tessera/explain/explain.h"

namespace tessera::explain {
namespace {

template <typename Value>
using Words = std::vector<std::pair<const char*, Value>>;

const Words<Estimator> kEstimators = {{"automatic", Estimator::automatic},
                                      {"kernel", Estimator::kernel},
                                      {"forest", Estimator::forest},
                                      {"published", Estimator::published}};
const Words<IntervalKind> kIntervals = {{"conformal", IntervalKind::conformal},
                                        {"percentile", IntervalKind::percentile},
                                        {"basic", IntervalKind::basic},
                                        {"bca", IntervalKind::bca},
                                        {"studentised", IntervalKind::studentised},
                                        {"delete-one", IntervalKind::delete_one},
                                        {"classical", IntervalKind::classical}};

template <typename Value>
Value parse(const Words<Value>& words, std::string_view word, const char* what) {
  std::vector<std::string> names;
  for (const auto& [name, value] : words) {
    if (word == name) return value;
    names.emplace_back(name);
  }
  throw Error(ErrorCode::invalid_argument, "{}: expected one of {}, found '{}'", what, fmt::join(names, ", "), word);
}

template <typename Value>
const char* name_of(const Words<Value>& words, Value value) {
  for (const auto& [name, candidate] : words) {
    if (candidate == value) return name;
  }
  return "";
}

}  // namespace

Estimator parse_estimator(std::string_view word) { return parse(kEstimators, word, "estimator"); }
IntervalKind parse_interval(std::string_view word) { return parse(kIntervals, word, "interval"); }
Weights parse_weights(std::string_view word) {
  return parse<Weights>({{"linear", Weights::linear}, {"none", Weights::none}}, word, "weights");
}
ImportanceKind parse_importance(std::string_view word) {
  return parse<ImportanceKind>({{"gradient", ImportanceKind::gradient}, {"difference", ImportanceKind::difference}},
                               word, "importance");
}
const char* to_string(Estimator estimator) { return name_of(kEstimators, estimator); }
const char* to_string(IntervalKind kind) { return name_of(kIntervals, kind); }

const char* to_string(ColumnKind kind) { return kind == ColumnKind::continuous ? "continuous" : "categorical"; }

const char* to_string(Warning warning) {
  constexpr std::array names = {"extrapolation",   "few-rows",           "one-category",
                                "flat-output",     "saturated-output",   "poor-fit",
                                "ill-conditioned", "few-effective-rows", "quantile-crossing"};
  static_assert(names.size() == kWarnings);
  return names[static_cast<size_t>(warning)];
}

std::string meaning_of(std::string_view flag) {
  constexpr std::array<const char*, kWarnings> meanings = {"The row or a step lies outside the data near it",
                                                           "Fewer rows than asked for, or hardly more than parameters",
                                                           "A category has no record to compare with",
                                                           "All outputs near the row are equal",
                                                           "Most outputs near the row are exactly 0 or 1",
                                                           "Left-out outputs near the row are predicted poorly",
                                                           "Features cannot be told apart near the row",
                                                           "The weights leave few rows",
                                                           "The local fits of quantiles cross"};
  for (size_t k = 0; k < meanings.size(); ++k) {
    if (flag == to_string(static_cast<Warning>(k))) return meanings[k];
  }
  return std::string(flag);
}

Options published_options(bool classification) {
  Options options;
  options.estimator = Estimator::published;
  options.interval = IntervalKind::percentile;
  options.classification = classification;
  options.clip = 0;
  options.under_determined = UnderDetermined::minimum_norm;
  return options;
}

}  // namespace tessera::explain
