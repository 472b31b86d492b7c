#include "tessera/explain/table.h"

#include <fmt/ranges.h>

#include "tessera/base/error.h"

namespace tessera::explain {

int64_t Table::column(std::string_view name) const {
  std::vector<std::string> names;
  for (size_t j = 0; j < columns.size(); ++j) {
    if (columns[j].name == name) return static_cast<int64_t>(j);
    names.push_back(columns[j].name);
  }
  throw Error(ErrorCode::not_found, "column '{}' is not in the table; its columns are {}", name,
              fmt::join(names, ", "));
}

}  // namespace tessera::explain
