#include "cli/experts_costs.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tessera/base/error.h"
#include "tessera/base/file.h"

namespace tessera::cli {

std::vector<double> read_costs(const std::string& path, size_t count, const std::string& owner) {
  const nlohmann::json document = read_json(path);
  if (!document.is_array() || document.size() != count) {
    throw Error(ErrorCode::bad_file, "{}: expected a JSON list of {} numbers, one per {}, found {}", path, count, owner,
                document.is_array() ? fmt::format("{} entries", document.size()) : document.type_name());
  }
  std::vector<double> costs;
  for (const auto& value : document) {
    if (!value.is_number()) throw Error(ErrorCode::bad_file, "{}: cost {} is no number", path, costs.size());
    costs.push_back(value.get<double>());
  }
  return costs;
}

}  // namespace tessera::cli
