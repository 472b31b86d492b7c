#include "explain/lanes.h"

#include <cstdlib>
#include <string_view>

namespace tessera::explain {
namespace {
#include "explain/lanes_body.h"
}  // namespace

const Lanes& baseline_lanes() {
  static const Lanes table{"baseline", delete_rows, delete_by_parameters, distances, cholesky};
  return table;
}

const Lanes& lanes() {
  static const Lanes& chosen = []() -> const Lanes& {
    const char* forced = std::getenv("TESSERA_EXPLAIN_LANES");
    const bool baseline = forced != nullptr && std::string_view(forced) == "baseline";
    return baseline || avx2_lanes() == nullptr ? baseline_lanes() : *avx2_lanes();
  }();
  return chosen;
}

}  // namespace tessera::explain
