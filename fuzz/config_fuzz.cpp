// A config.json of any text; what follows a zero byte is the generation_config.json.
#include <cstdint>
#include <string>
#include <string_view>

#include "model/rope.h"
#include "tessera/base/error.h"
#include "tessera/model/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera::model;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t end = text.find('\0');
  const std::string_view generation = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  try {
    const ModelConfig config = config_from_json(text.substr(0, end), generation, "fuzz.json");
    const RopeFrequencies frequencies(config.rope, config.head_dim);
  } catch (const tessera::Error&) {
  }
  return 0;
}
