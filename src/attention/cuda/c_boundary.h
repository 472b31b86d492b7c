// What every C interface does at its boundary: errors become numbers and a kept sentence, views are checked and copied.
#pragma once

#include <algorithm>
#include <exception>
#include <string>

#include "tessera/attention/cuda.h"
#include "tessera/attention/cuda_c.h"

namespace tessera::attention::cuda {

// Runs `body`; 0, or 1 + ErrorCode with the sentence in `last_error`.
template <typename Body>
int guarded_into(std::string& last_error, const Body& body) noexcept {
  try {
    last_error.clear();
    body();
    return 0;
  } catch (const Error& error) {
    last_error = error.what();
    return 1 + static_cast<int>(error.code());
  } catch (const std::exception& error) {
    last_error = error.what();
    return 1 + static_cast<int>(ErrorCode::internal);
  }
}

// Checks whose messages begin with the interface's name.
struct NamedCall {
  const char* name;

  void require(const void* pointer, const char* argument) const {
    if (pointer == nullptr) throw Error(ErrorCode::invalid_argument, std::string(name) + ": " + argument + " is null");
  }

  DeviceView view(const tessera_cuda_view& from) const {
    if (from.type < TESSERA_CUDA_BF16 || from.type > TESSERA_CUDA_F32 || from.rank < 0 || from.rank > 4) {
      throw Error(ErrorCode::invalid_argument,
                  std::string(name) +
                      ": a view must have type 0 (bf16), 1 (f16) or 2 (f32) and rank 0 to 4, found type " +
                      std::to_string(from.type) + ", rank " + std::to_string(from.rank));
    }
    DeviceView view{
        .data = from.data, .type = static_cast<ElementType>(from.type), .rank = from.rank, .device = from.device};
    std::copy_n(from.shape, 4, view.shape.begin());
    std::copy_n(from.strides, 4, view.strides.begin());
    return view;
  }
};

}  // namespace tessera::attention::cuda
