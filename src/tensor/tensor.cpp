#include "tessera/tensor/tensor.h"

#include <cstdlib>
#include <cstring>
#include <limits>

namespace tessera {
namespace {

constexpr size_t kAlignment = 64;  // one cache line, and the widest vector

std::shared_ptr<std::byte> allocate(int64_t bytes) {
  const size_t size = (static_cast<size_t>(bytes) + kAlignment - 1) / kAlignment * kAlignment;
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kAlignment, std::max(size, kAlignment)));
  if (memory == nullptr) throw std::bad_alloc();
  return {memory, [](std::byte* pointer) { std::free(pointer); }};
}

void check_blocks(DType dtype, const Shape& shape) {
  if (shape.last() % block_elements(dtype) != 0) {
    throw Error(ErrorCode::invalid_argument, "tensor {} of {}: the last dimension must be a multiple of {}",
                shape.str(), to_string(dtype), block_elements(dtype));
  }
}

}  // namespace

Shape::Shape(std::span<const int64_t> dims) {
  if (dims.size() > kMaxRank) {
    throw Error(ErrorCode::invalid_argument, "tensor: expected at most {} dimensions, found {}", kMaxRank, dims.size());
  }
  constexpr int64_t kLimit = int64_t{1} << 62;
  int64_t product = 1;
  for (const int64_t dim : dims) {
    if (dim < 0 || (dim > 0 && product > kLimit / dim)) {
      throw Error(ErrorCode::invalid_argument, "tensor: dimension {} is negative or makes the tensor too large", dim);
    }
    product *= dim;
    dims_[static_cast<size_t>(rank_++)] = dim;
  }
}

int64_t Shape::elements() const {
  int64_t product = 1;
  for (int axis = 0; axis < rank_; ++axis) product *= (*this)[axis];
  return product;
}

std::string Shape::str() const {
  std::string text = "[";
  for (int axis = 0; axis < rank_; ++axis) text += (axis == 0 ? "" : ", ") + std::to_string((*this)[axis]);
  return text + "]";
}

Tensor Tensor::empty(DType dtype, const Shape& shape, Device device) {
  if (device.kind != DeviceKind::cpu) {
    throw Error(ErrorCode::unsupported, "tensor: this build can allocate on the CPU only");
  }
  check_blocks(dtype, shape);
  Tensor tensor;
  tensor.dtype_ = dtype;
  tensor.shape_ = shape;
  tensor.device_ = device;
  auto memory = allocate(tensor.bytes());
  tensor.data_ = memory.get();
  tensor.storage_ = std::move(memory);
  return tensor;
}

Tensor Tensor::zeros(DType dtype, const Shape& shape, Device device) {
  Tensor tensor = empty(dtype, shape, device);
  std::memset(tensor.data_, 0, static_cast<size_t>(tensor.bytes()));
  return tensor;
}

Tensor Tensor::borrow(DType dtype, const Shape& shape, std::span<const std::byte> bytes,
                      std::shared_ptr<const void> keep_alive) {
  check_blocks(dtype, shape);
  Tensor tensor;
  tensor.dtype_ = dtype;
  tensor.shape_ = shape;
  if (static_cast<int64_t>(bytes.size()) != tensor.bytes()) {
    throw Error(ErrorCode::invalid_argument, "tensor {} of {}: expected {} bytes, found {}", shape.str(),
                to_string(dtype), tensor.bytes(), bytes.size());
  }
  tensor.data_ = const_cast<std::byte*>(bytes.data());
  tensor.storage_ = std::move(keep_alive);
  tensor.borrowed_ = true;
  return tensor;
}

const std::byte* Tensor::raw() const {
  TESSERA_ASSERT(device_.kind == DeviceKind::cpu);
  return data_;
}

std::byte* Tensor::mutable_raw() {
  TESSERA_ASSERT(device_.kind == DeviceKind::cpu && !borrowed_);
  return data_;
}

Tensor Tensor::slice(int64_t begin, int64_t count) const {
  TESSERA_ASSERT(shape_.rank() >= 1 && begin >= 0 && count >= 0 && begin + count <= shape_[0]);
  std::array<int64_t, Shape::kMaxRank> dims = {};
  for (int axis = 0; axis < shape_.rank(); ++axis) dims[static_cast<size_t>(axis)] = shape_[axis];
  dims[0] = count;
  Tensor view = *this;
  const int64_t stride = shape_[0] == 0 ? 0 : bytes() / shape_[0];
  view.shape_ = Shape(std::span<const int64_t>(dims.data(), static_cast<size_t>(shape_.rank())));
  if (data_ != nullptr) view.data_ = data_ + begin * stride;
  return view;
}

Tensor Tensor::reshape(const Shape& shape) const {
  TESSERA_ASSERT(shape.elements() == shape_.elements());
  check_blocks(dtype_, shape);
  Tensor view = *this;
  view.shape_ = shape;
  return view;
}

Tensor Tensor::clone() const {
  Tensor copy = empty(dtype_, shape_, device_);
  if (bytes() > 0) std::memcpy(copy.data_, data_, static_cast<size_t>(bytes()));
  return copy;
}

}  // namespace tessera
