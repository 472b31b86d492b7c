// A stable digest that tells models apart; not a cryptographic one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "tessera/model/config.h"
#include "tessera/tensor/tensor.h"

namespace tessera::model {

// 64-bit FNV-1a (Fowler, Noll, Vo) over everything added, in order.
class Digest {
 public:
  // The fields that change what the model computes: neither its name nor its end tokens.
  void add(const ModelConfig& config);
  // Name, type, shape and 64 bytes from the middle, so that two trainings of one architecture differ while only one
  // page per tensor is touched.
  void add(std::string_view name, const Tensor& tensor);
  std::string hexadecimal() const;

 private:
  void add_bytes(std::span<const std::byte> bytes);
  void add_text(std::string_view text);

  uint64_t state_ = 0xCBF29CE484222325ULL;
};

}  // namespace tessera::model
