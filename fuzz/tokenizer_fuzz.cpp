// A tokenizer.json of any text; one that loads encodes and decodes a text that touches every part.
#include <cstdint>
#include <string_view>

#include "model/tokenizer_json.h"
#include "tessera/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera::model;
  try {
    const auto tokenizer = tokenizer_from_json({reinterpret_cast<const char*>(data), size}, "<s>", "", "fuzz.json");
    tokenizer->decode(
        tokenizer->encode(" It's <s>e\u0301 \u4e16\xFF 123\r\n\t  <|im_start|>", {.parse_special = true}));
  } catch (const tessera::Error&) {
  }
  return 0;
}
