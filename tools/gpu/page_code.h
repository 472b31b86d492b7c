// Numbers of the codes in decode's pages by their definition, not by the kernel's way: for the unit tests and the GPU
// check.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "tessera/attention/cuda_decode.h"

namespace tessera::attention::cuda {

// Of channel `channel` in one row of codes; a bf16 page's code is the number itself.
inline double code_number(PageFormat format, const uint8_t* row, int channel) {
  switch (format) {
    case PageFormat::bf16: {
      uint16_t bits;
      std::memcpy(&bits, row + 2 * channel, 2);
      const uint32_t word = static_cast<uint32_t>(bits) << 16;
      float number;
      std::memcpy(&number, &word, 4);
      return number;
    }
    case PageFormat::int8:
      return row[channel];
    case PageFormat::fp8: {
      const int exponent = row[channel] >> 3 & 15;
      const int fraction = row[channel] & 7;
      const double size = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
      return (row[channel] & 0x80) != 0 ? -size : size;
    }
    default: {
      uint32_t word;
      std::memcpy(&word, row + channel / 8 * 4, 4);
      return word >> (4 * (channel % 8 / 2) + 16 * (channel % 2)) & 15u;
    }
  }
}

}  // namespace tessera::attention::cuda
