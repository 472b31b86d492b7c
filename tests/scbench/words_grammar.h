// Reads an example of the `words` vocabulary back, line by line, and checks everything docs/tasks.md promises.
#pragma once

#include <string>
#include <vector>

#include "tessera/scbench/task.h"

namespace tessera::scbench {

// One message per fault; empty for a well-formed example.
std::vector<std::string> words_faults(const Example& example);

}  // namespace tessera::scbench
