// A method is four optional policies, one per stage of the life of a KV cache, written as one string:
//
//   Method m = Method::parse("vertical-slash + snapkv(capacity=1024, window=32)");
//   m.str();   // canonical: every parameter printed, in a fixed order
//
// Grammar: method := stage ('+' stage)*; stage := name [ '(' key '=' value (',' key '=' value)* ')' ]. Names: `dense` (the
// empty method), prefill selectors a-shape, tri-shape, vertical-slash, block-sparse, auto; cache policies streaming-llm,
// snapkv, kivi; loader quest. At most one per stage. Anything else throws Error(invalid_argument) that names the word and
// lists what is possible.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/attention/selector.h"
#include "tessera/kv/policy.h"

namespace tessera::engine {

struct Method {
  std::shared_ptr<const attention::Selector> prefill;  // null: dense
  std::shared_ptr<const kv::CachePolicy> cache;        // null: full cache
  std::shared_ptr<const kv::Loader> load;              // null: every row; a session works on a fork of it

  static Method parse(std::string_view text);
  std::string str() const;
};

// One line per stage name with its parameters, defaults and source, for --help and error messages.
std::vector<std::string> method_help();

}  // namespace tessera::engine

namespace tessera {
using engine::Method;
}
