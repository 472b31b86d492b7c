// Design files from untrusted sources: any bytes give a well-formed design or an Error, never anything else.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tessera/base/error.h"
#include "tessera/experts/design_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera;
  experts::DesignFile file;
  try {
    file = experts::parse_design({reinterpret_cast<const char*>(data), size}, "input");
  } catch (const Error&) {
    return 0;
  }
  try {
    check_design(file.design);
    (void)experts::parse_design(experts::format_design(file), "written");
  } catch (const Error&) {
    std::abort();  // what was read must be well-formed and survive being written
  }
  return 0;
}
