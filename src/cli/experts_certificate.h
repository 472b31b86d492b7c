// What the program says about a design, counted anew from its sets: for people and as JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "tessera/experts/bound.h"
#include "tessera/experts/design_file.h"

namespace tessera::cli {

struct DesignFacts {
  experts::PairCoverage pairs;
  experts::Bound bound;  // for the design's own number of classes, largest set and lambda_min (at least 1)
  int64_t sets = 0;
  double ratio = 0;  // sets over bound
};

DesignFacts design_facts(const experts::Design& design);
// With the bound of the problem that the design answers.
DesignFacts design_facts(const experts::Design& design, const experts::Bound& bound);
nlohmann::json to_json(const DesignFacts& facts);

// Several lines; says plainly what is guaranteed and, when pairs are uncovered, what is not.
std::string describe(const DesignFacts& facts, const experts::DesignFile& file);

// "12 (dog)" with names, "12" without.
std::string class_text(const experts::DesignFile& file, int item);

// One line per set.
std::string list_sets(const experts::DesignFile& file);

}  // namespace tessera::cli
