// A safetensors file of any bytes; every byte of every tensor must be readable.
#include <cstdint>
#include <span>

#include "tessera/base/error.h"
#include "tessera/model/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using tessera::model::SafetensorsFile;
  try {
    const auto bytes = std::as_bytes(std::span(data, size));
    const SafetensorsFile file = SafetensorsFile::parse(bytes, "fuzz.safetensors", nullptr);
    unsigned sum = 0;
    for (const auto& [name, info] : file.tensors()) {
      for (const std::byte byte : info.bytes) sum += static_cast<unsigned>(byte);
      try {
        sum += static_cast<unsigned>(file.tensor(name).bytes());
      } catch (const tessera::Error&) {
      }
    }
    volatile unsigned keep = sum;
    static_cast<void>(keep);
  } catch (const tessera::Error&) {
  }
  return 0;
}
