// Arrays from untrusted files: any bytes give a table or an Error, never anything else.
#include <cstddef>
#include <cstdint>
#include <string>

#include "tessera/base/error.h"
#include "tessera/explain/table.h"

namespace {

void parse(std::string_view bytes) {
  using namespace tessera;
  for (const explain::ReadOptions& options :
       {explain::ReadOptions{.categorical = {"x0"}, .max_levels = 100}, explain::ReadOptions{.names = {"a", "b"}}}) {
    try {
      (void)explain::parse_npy(std::as_bytes(std::span(bytes.data(), bytes.size())), "input", options);
    } catch (const Error&) {
    }
  }
}

}  // namespace

// The bytes as they are, and as the header's text and data behind a sound start.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  parse(bytes);
  const size_t text = std::min<size_t>(size, 80);
  std::string framed = "\x93NUMPY\x01";
  framed += '\0';
  framed += static_cast<char>(text);
  framed += '\0';
  parse(framed.append(bytes));
  return 0;
}
