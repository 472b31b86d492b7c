// Tables from untrusted files: any bytes give a table or an Error, never anything else.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tessera/base/error.h"
#include "tessera/explain/table.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera;
  try {
    (void)explain::parse_csv({reinterpret_cast<const char*>(data), size}, "input",
                             {.categorical_up_to = 3, .max_levels = 100});
  } catch (const Error&) {
  }
  try {
    (void)explain::parse_npy({reinterpret_cast<const std::byte*>(data), size}, "input", {.categorical = {"x0"}});
  } catch (const Error&) {
  }
  return 0;
}
