// Costs on the command line: a JSON file with a list of numbers.
#pragma once

#include <string>
#include <vector>

namespace tessera::cli {

// `count` numbers, one per `owner` ("candidate", "class"). Throws Error(bad_file) naming the file; signs are checked by
// whoever uses the costs.
std::vector<double> read_costs(const std::string& path, size_t count, const std::string& owner);

}  // namespace tessera::cli
