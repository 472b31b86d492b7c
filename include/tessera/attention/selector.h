// Selectors: choose, per query head and prompt, what sparse prefill computes.
//
// A new selector is one header with its options, one source file, one line in the registry of engine/method.cpp, one
// row in the shared test matrix tests/attention/selector_matrix_test.cpp and one quality-and-speed row in
// docs/attention.md.
#pragma once

#include <memory>
#include <string>

#include "tessera/attention/attention.h"

namespace tessera::attention {

struct SelectContext {
  int layer = 0;               // for selectors with a budget per layer and head
  ThreadPool* pool = nullptr;  // null: ThreadPool::shared()
};

class Selector {
 public:
  virtual ~Selector() = default;

  // The canonical method string, for example "a-shape(sinks=128, window=3968)".
  virtual std::string describe() const = 0;

  // The work list covers every query row with at least one key. Deterministic; ties go to the lower index.
  virtual WorkList select(const AttentionInput& input, const SelectContext& context) const = 0;
};

}  // namespace tessera::attention
