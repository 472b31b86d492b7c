#include <zlib.h>

#include <algorithm>

#include "tessera/base/error.h"
#include "tessera/experts/dataset.h"

namespace tessera::experts {
namespace {

uint32_t big_endian(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t k = 0; k < 4; ++k) value = value << 8 | static_cast<unsigned char>(bytes[at + k]);
  return value;
}

// The sizes; checks magic number, element type, dimensions and length.
std::vector<uint32_t> idx_sizes(std::string_view bytes, size_t dimensions, std::string_view name) {
  const size_t header = 4 + 4 * dimensions;
  const uint32_t wanted = 0x0800U + static_cast<uint32_t>(dimensions);
  if (bytes.size() >= 4 && big_endian(bytes, 0) != wanted) {
    throw Error(ErrorCode::bad_file, "{}: expected the IDX magic number {} ({} dimensions of bytes), found {}", name,
                wanted, dimensions, big_endian(bytes, 0));
  }
  if (bytes.size() < header) {
    throw Error(ErrorCode::bad_file, "{}: expected an IDX header of {} bytes, found {} bytes", name, header,
                bytes.size());
  }
  std::vector<uint32_t> sizes;
  size_t count = 1;
  for (size_t k = 0; k < dimensions; ++k) {
    sizes.push_back(big_endian(bytes, 4 + 4 * k));
    if (sizes.back() != 0 && count > bytes.size() / sizes.back())
      count = bytes.size() + 1;
    else
      count *= sizes.back();
  }
  if (count != bytes.size() - header) {
    throw Error(ErrorCode::bad_file, "{}: the sizes in the header do not match the {} bytes that follow", name,
                bytes.size() - header);
  }
  return sizes;
}

}  // namespace

Dataset parse_idx(std::string_view images, std::string_view labels, std::string_view name) {
  const std::vector<uint32_t> sizes = idx_sizes(images, 3, name);
  const std::string label_name = std::string(name) + " (labels)";
  const std::vector<uint32_t> count = idx_sizes(labels, 1, label_name);
  if (count[0] != sizes[0] || sizes[0] == 0 || sizes[1] == 0 || sizes[2] == 0) {
    throw Error(ErrorCode::bad_file, "{}: {} images of {} x {} but {} labels", name, sizes[0], sizes[1], sizes[2],
                count[0]);
  }
  Dataset data{.rows = static_cast<int64_t>(sizes[0]),
               .features = static_cast<int64_t>(sizes[1]) * static_cast<int64_t>(sizes[2]),
               .channels = 1,
               .height = static_cast<int>(sizes[1]),
               .width = static_cast<int>(sizes[2])};
  data.values.reserve(images.size() - 16);
  for (const char c : images.substr(16))
    data.values.push_back(static_cast<float>(static_cast<unsigned char>(c)) / 255.0F);
  int32_t classes = 0;
  for (const char c : labels.substr(8)) {
    data.labels.push_back(static_cast<unsigned char>(c));
    classes = std::max(classes, data.labels.back() + 1);
  }
  for (int32_t k = 0; k < classes; ++k) data.classes.push_back(std::to_string(k));
  return data;
}

std::string inflate(std::string_view bytes, std::string_view name, size_t limit) {
  if (!bytes.starts_with("\x1f\x8b")) return std::string(bytes);
  z_stream stream{};
  if (inflateInit2(&stream, 15 + 16) != Z_OK) throw Error(ErrorCode::internal, "zlib could not start");
  std::string result;
  std::vector<char> buffer(1 << 18);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(std::min<size_t>(bytes.size(), UINT32_MAX));
  int status = Z_OK;
  while (status == Z_OK && result.size() <= limit) {
    stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
    stream.avail_out = static_cast<uInt>(buffer.size());
    status = ::inflate(&stream, Z_NO_FLUSH);
    result.append(buffer.data(), buffer.size() - stream.avail_out);
  }
  inflateEnd(&stream);
  if (result.size() > limit) throw Error(ErrorCode::limit_exceeded, "{}: inflates to more than {} bytes", name, limit);
  if (status != Z_STREAM_END) throw Error(ErrorCode::bad_file, "{}: the gzip data is damaged or cut off", name);
  return result;
}

}  // namespace tessera::experts
