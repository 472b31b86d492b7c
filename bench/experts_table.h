// What the benches of the experts share: real data, the settings of the documented tables, designs, intervals.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tessera/experts/dataset.h"
#include "tessera/experts/design.h"
#include "tessera/experts/learner.h"

namespace tessera::experts {

struct Split {
  Dataset train, test;
};

// letter, fashion or digits, from where scripts/fetch-data puts them: TESSERA_DATA, else ~/.cache/tessera/data.
Split load_split(const std::string& name);

// The settings that reproduce the documented tables; chosen on seeds from 500000 up.
LearnerOptions table_settings(const std::string& data, const std::string& kind);

// K-R.json of a folder of designs; R = K: the one full set.
Design table_design(const std::filesystem::path& folder, int classes, int size);

// Whole lines of a file of JSON lines; none where there is no file.
std::vector<nlohmann::json> read_runs(const std::filesystem::path& path);

// Mean and half width of a two-sided 95 % t interval; the half width of one value is NaN.
struct Interval {
  double mean = 0, half = 0;
};
Interval interval_of(const std::vector<double>& values);

}  // namespace tessera::experts
