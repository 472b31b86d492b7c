// Tensor: dtype, shape, device and shared storage. Row-major and contiguous; the last dimension is the fastest.
//
//   Tensor hidden = Tensor::empty(DType::f32, {rows, width});      // [rows, width], CPU
//   float* row = hidden.data<float>() + 3 * width;
//   Tensor weight = Tensor::borrow(DType::q4_1, {out, in}, mapped_bytes, keep_alive);   // no copy
//
// A Tensor is a handle: copying it shares the storage; `clone()` copies the bytes. Host pointers are handed out only
// for CPU tensors; floors above tensor/ must not assume that a tensor has one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "tessera/base/error.h"
#include "tessera/tensor/dtype.h"

namespace tessera {

enum class DeviceKind : uint8_t { cpu, cuda };

struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int index = 0;
  bool operator==(const Device&) const = default;
};

// Up to four dimensions, slowest first. Rank 0 is a scalar with one element.
class Shape {
 public:
  static constexpr int kMaxRank = 4;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  // Throws Error(invalid_argument) on more than kMaxRank dimensions, a negative one, or a product above 2^62.
  explicit Shape(std::span<const int64_t> dims);

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return dims_[static_cast<size_t>(axis)]; }
  int64_t last() const { return rank_ == 0 ? 1 : dims_[static_cast<size_t>(rank_ - 1)]; }
  int64_t elements() const;
  // elements() / last(): how many rows a matrix view has.
  int64_t rows() const { return last() == 0 ? 0 : elements() / last(); }
  bool operator==(const Shape&) const = default;
  std::string str() const;  // for example "[3, 64]"

 private:
  std::array<int64_t, kMaxRank> dims_ = {};
  int rank_ = 0;
};

class Tensor {
 public:
  Tensor() = default;

  // Uninitialised memory, aligned to 64 bytes. The last dimension must be a multiple of block_elements(dtype).
  static Tensor empty(DType dtype, const Shape& shape, Device device = {});
  static Tensor zeros(DType dtype, const Shape& shape, Device device = {});

  // A view of memory that somebody else owns; `keep_alive` holds it (may be null for static data). Any alignment.
  static Tensor borrow(DType dtype, const Shape& shape, std::span<const std::byte> bytes,
                       std::shared_ptr<const void> keep_alive);

  bool defined() const { return data_ != nullptr || shape_.rank() > 0; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  Device device() const { return device_; }
  int64_t elements() const { return shape_.elements(); }
  int64_t bytes() const { return row_bytes(dtype_, shape_.last()) * shape_.rows(); }

  // Typed pointer to the first element; CPU only, the type must match the dtype (float: f32, uint16_t: f16 or bf16,
  // int32_t: i32). Writing to a borrowed tensor is a mistake of this program.
  template <typename T>
  T* data();
  template <typename T>
  const T* data() const;
  const std::byte* raw() const;
  std::byte* mutable_raw();

  // Rows [begin, begin + count) of the first dimension, sharing the storage.
  Tensor slice(int64_t begin, int64_t count) const;
  // The same elements under another shape.
  Tensor reshape(const Shape& shape) const;
  Tensor clone() const;

 private:
  std::shared_ptr<const void> storage_;
  std::byte* data_ = nullptr;
  Shape shape_;
  DType dtype_ = DType::f32;
  Device device_;
  bool borrowed_ = false;
};

template <typename T>
constexpr bool holds(DType dtype) {
  if constexpr (std::is_same_v<T, float>) return dtype == DType::f32;
  if constexpr (std::is_same_v<T, uint16_t>) return dtype == DType::f16 || dtype == DType::bf16;
  if constexpr (std::is_same_v<T, int32_t>) return dtype == DType::i32;
  return false;
}

template <typename T>
const T* Tensor::data() const {
  TESSERA_ASSERT(holds<T>(dtype_) && device_.kind == DeviceKind::cpu);
  return reinterpret_cast<const T*>(data_);
}

template <typename T>
T* Tensor::data() {
  TESSERA_ASSERT(holds<T>(dtype_) && device_.kind == DeviceKind::cpu && !borrowed_);
  return reinterpret_cast<T*>(data_);
}

}  // namespace tessera
