// Any text through every kind of tokenizer: the first byte picks one. Byte-level tokenizers that do not change the text
// must give its bytes back.
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/tokenizer_json.h"
#include "tessera/base/file.h"

namespace {

using namespace tessera::model;

struct Kind {
  std::unique_ptr<Tokenizer> tokenizer;
  bool keeps_bytes;
};

std::vector<Kind> load() {
  std::vector<Kind> kinds;
  const auto add = [&](const char* name, bool keeps_bytes) {
    const std::filesystem::path path = std::filesystem::path(TESSERA_TOKENIZERS) / (std::string(name) + ".json");
    kinds.push_back({tokenizer_from_json(tessera::read_file(path), "", "", name), keeps_bytes});
  };
  for (const char* name : {"gpt2", "smollm", "llama3", "no_merges"}) add(name, true);
  for (const char* name :
       {"prefix_space", "qwen2", "qwen35", "added_flags", "llama2", "metaspace_first", "metaspace_always"}) {
    add(name, false);
  }
  return kinds;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<Kind> kinds = load();
  if (size == 0) return 0;
  const Kind& kind = kinds[data[0] % kinds.size()];
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::vector<int32_t> tokens = kind.tokenizer->encode(text, {.add_special = false, .parse_special = false});
  Detokenizer stream(*kind.tokenizer, {"\n\n"});
  std::string bytes;
  for (const int32_t token : tokens) {
    bytes += kind.tokenizer->token_bytes(token);
    stream.push(token);
  }
  stream.finish();
  if (kind.keeps_bytes && bytes != text) std::abort();
  kind.tokenizer->decode(kind.tokenizer->encode(text, {.add_special = true, .parse_special = true}));
  return 0;
}
