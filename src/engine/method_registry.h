// The one place that knows every method name: how its text becomes a policy object.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tessera/engine/method.h"

namespace tessera::engine {

struct StageText {
  std::string name;
  std::vector<std::pair<std::string, std::string>> arguments;  // (key, value) in the order written
};

// Builds the stage and puts it into its slot of `method`. `whole` is the method string, for messages.
// Throws Error(invalid_argument) on unknown names, keys, values, and on a second policy for one stage.
void apply_stage(const StageText& stage, std::string_view whole, Method& method);

}  // namespace tessera::engine
