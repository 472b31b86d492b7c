#include "cli/experts_certificate.h"

#include <fmt/format.h>

#include <algorithm>

#include "tessera/experts/combine.h"

namespace tessera::cli {

using namespace tessera::experts;

namespace {
constexpr size_t kListedPairs = 10;
}

DesignFacts design_facts(const Design& design, const Bound& bound) {
  DesignFacts facts{.pairs = count_pairs(design), .bound = bound, .sets = static_cast<int64_t>(design.sets.size())};
  if (bound.sets > 0) facts.ratio = static_cast<double>(facts.sets) / static_cast<double>(bound.sets);
  return facts;
}

DesignFacts design_facts(const Design& design) {
  const PairCoverage pairs = count_pairs(design, 0);
  if (pairs.size_max < 2 && design.classes > 1) return design_facts(design, {});
  return design_facts(design, lower_bound(design.classes, pairs.size_max, std::max(1, pairs.lambda_min)));
}

nlohmann::json to_json(const DesignFacts& facts) {
  return {{"sets", facts.sets},
          {"lower_bound", facts.bound.sets},
          {"lower_bound_source", facts.bound.source},
          {"ratio", facts.ratio},
          {"lambda_min", facts.pairs.lambda_min},
          {"lambda_max", facts.pairs.lambda_max},
          {"errors_survived", facts.pairs.errors_survived()},
          {"uncovered_pairs", facts.pairs.uncovered},
          {"degrees", {facts.pairs.degree_min, facts.pairs.degree_max}},
          {"sizes", {facts.pairs.size_min, facts.pairs.size_max}},
          {"incidences", facts.pairs.incidences}};
}

std::string class_text(const DesignFile& file, int item) {
  if (file.class_names.empty()) return fmt::format("{}", item);
  return fmt::format("{} ({})", item, file.class_names[static_cast<size_t>(item)]);
}

std::string describe(const DesignFacts& facts, const DesignFile& file) {
  const PairCoverage& pairs = facts.pairs;
  std::string text = fmt::format(
      "{} classes in {} sets of {} to {} classes; each class in {} to {} sets, {} places in all\n", file.design.classes,
      facts.sets, pairs.size_min, pairs.size_max, pairs.degree_min, pairs.degree_max, pairs.incidences);
  if (pairs.uncovered == 0) {
    text += fmt::format(
        "counted: every two classes share {} to {} sets; the minimum-deficit rule is always right while at "
        "most {} of the in-set experts err, whatever the others say\n",
        pairs.lambda_min, pairs.lambda_max, std::max(0, pairs.errors_survived()));
    text += fmt::format("lower bound {} ({}), ratio {:.3f}{}\n", facts.bound.sets, facts.bound.source, facts.ratio,
                        facts.sets <= facts.bound.sets ? ": no design of such sets has fewer" : "");
    if (!unsafe_for_plurality(file.design).empty()) {
      text += "plurality voting is unsafe on this design; use the deficit, balance or quadratic rule\n";
    }
    return text;
  }
  text += fmt::format(
      "counted: {} pairs of classes share no set, so an input of one of them can always be taken for the "
      "other; all other pairs are told apart by perfect in-set experts\nuncovered:",
      pairs.uncovered);
  for (size_t i = 0; i < std::min(kListedPairs, pairs.uncovered_pairs.size()); ++i) {
    const auto& [a, b] = pairs.uncovered_pairs[i];
    text += fmt::format("{} {} and {}", i == 0 ? "" : ";", class_text(file, a), class_text(file, b));
  }
  return text + (pairs.uncovered > static_cast<int64_t>(kListedPairs) ? "; ...\n" : "\n");
}

std::string list_sets(const DesignFile& file) {
  std::string text;
  for (size_t j = 0; j < file.design.sets.size(); ++j) {
    text += fmt::format("{:5}:", j);
    for (const int item : file.design.sets[j]) {
      text += file.class_names.empty() ? fmt::format(" {}", item) : " " + file.class_names[static_cast<size_t>(item)];
    }
    text += '\n';
  }
  return text;
}

}  // namespace tessera::cli
