#include "tessera/model/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>

#include "model/json_fields.h"
#include "model/optional_file.h"
#include "model/quote.h"
#include "tessera/base/mapped_file.h"

namespace tessera::model {
namespace {

static_assert(std::endian::native == std::endian::little, "the readers copy little-endian numbers as they are");

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
constexpr std::string_view kMetadataKey = "__metadata__";

struct ElementType {
  std::string_view name;
  int64_t bits;
  std::optional<DType> dtype;  // nothing: known, so that its extent can be checked, but not computed with
};

constexpr auto kElementTypes = std::to_array<ElementType>({
    {"F32", 32, DType::f32}, {"F16", 16, DType::f16}, {"BF16", 16, DType::bf16}, {"BOOL", 8, {}},
    {"U8", 8, {}},           {"I8", 8, {}},           {"U16", 16, {}},           {"I16", 16, {}},
    {"U32", 32, {}},         {"I32", 32, {}},         {"U64", 64, {}},           {"I64", 64, {}},
    {"F64", 64, {}},         {"C64", 64, {}},         {"F8_E4M3", 8, {}},        {"F8_E5M2", 8, {}},
    {"F8_E8M0", 8, {}},      {"F8_E4M3FNUZ", 8, {}},  {"F8_E5M2FNUZ", 8, {}},    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},      {"F4", 4, {}},
});

const ElementType* find_element_type(std::string_view name) {
  const auto* found = std::ranges::find(kElementTypes, name, &ElementType::name);
  return found == kElementTypes.end() ? nullptr : found;
}

[[noreturn]] void fail(const std::string& file, std::string_view tensor, const std::string& what) {
  throw Error(ErrorCode::bad_file, "{}: tensor {}: {}", file, quote(tensor), what);
}

std::string_view read_header(std::span<const std::byte> bytes, const std::string& file) {
  uint64_t length = 0;
  if (bytes.size() < sizeof(length)) {
    throw Error(ErrorCode::bad_file, "{}: expected at least 8 bytes, found {}; is the file truncated?", file,
                bytes.size());
  }
  std::memcpy(&length, bytes.data(), sizeof(length));
  if (length > kMaxHeaderBytes || length > bytes.size() - sizeof(length)) {
    throw Error(ErrorCode::bad_file,
                "{}: a header of {} bytes does not fit (file {} bytes, limit {}); is this a whole safetensors file?",
                file, length, bytes.size(), kMaxHeaderBytes);
  }
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + sizeof(length), length);
  if (!header.starts_with('{')) {
    throw Error(ErrorCode::bad_file, "{}: expected a JSON header that begins with '{{'; is this a safetensors file?",
                file);
  }
  return header;
}

// A list of integers, each from 0 to 2^62.
std::vector<int64_t> read_integers(const nlohmann::json& entry, const char* key, std::string_view tensor,
                                   const std::string& file) {
  constexpr uint64_t kLimit = uint64_t{1} << 62;
  const auto field = entry.find(key);
  if (field == entry.end() || !field->is_array()) fail(file, tensor, fmt::format("expected a list '{}'", key));
  std::vector<int64_t> numbers;
  for (const nlohmann::json& item : *field) {
    if (!item.is_number_unsigned() || item.get<uint64_t>() > kLimit) {
      fail(file, tensor, fmt::format("'{}' must hold integers from 0 to 2^62", key));
    }
    numbers.push_back(item.get<int64_t>());
  }
  return numbers;
}

uint64_t size_in_bytes(const SafetensorsInfo& info, std::string_view tensor, const std::string& file) {
  const ElementType* type = find_element_type(info.dtype);
  if (type == nullptr) {
    throw Error(ErrorCode::unsupported, "{}: tensor {} has the unknown dtype {}", file, quote(tensor),
                quote(info.dtype));
  }
  constexpr int64_t kLimit = int64_t{1} << 56;  // elements; keeps the count of bits below 2^63
  int64_t elements = 1;
  for (const int64_t dim : info.dims) {
    if (dim > 0 && elements > kLimit / dim) fail(file, tensor, "the shape multiplies to more than 2^56 elements");
    elements *= dim;
  }
  const int64_t bits = elements * type->bits;
  if (bits % 8 != 0) fail(file, tensor, fmt::format("{} elements of {} bits end within a byte", elements, type->bits));
  return static_cast<uint64_t>(bits / 8);
}

struct Extent {
  uint64_t begin = 0;
  uint64_t end = 0;
  std::string_view tensor;
};

struct Entry {
  SafetensorsInfo info;
  Extent extent;
};

Entry read_entry(const nlohmann::json& json, std::string_view tensor, const std::string& file) {
  if (!json.is_object() || json.size() != 3) fail(file, tensor, "expected an object of dtype, shape and data_offsets");
  const auto dtype = json.find("dtype");
  if (dtype == json.end() || !dtype->is_string()) fail(file, tensor, "expected a string 'dtype'");
  Entry entry;
  entry.info.dtype = dtype->get<std::string>();
  entry.info.dims = read_integers(json, "shape", tensor, file);
  const std::vector<int64_t> offsets = read_integers(json, "data_offsets", tensor, file);
  if (offsets.size() != 2 || offsets[0] > offsets[1]) fail(file, tensor, "'data_offsets' must be [begin, end]");
  entry.extent = {static_cast<uint64_t>(offsets[0]), static_cast<uint64_t>(offsets[1]), tensor};
  const uint64_t expected = size_in_bytes(entry.info, tensor, file);
  if (entry.extent.end - entry.extent.begin != expected) {
    fail(file, tensor,
         fmt::format("shape and dtype need {} bytes, 'data_offsets' span {}", expected,
                     entry.extent.end - entry.extent.begin));
  }
  return entry;
}

// The extents follow one another from the first to the last byte of the buffer.
void check_cover(std::vector<Extent>& extents, uint64_t buffer_bytes, const std::string& file) {
  std::ranges::sort(extents, {}, [](const Extent& extent) { return std::pair(extent.begin, extent.end); });
  uint64_t end = 0;
  for (const Extent& extent : extents) {
    if (extent.begin < end) fail(file, extent.tensor, "its bytes overlap those of another tensor");
    if (extent.begin > end)
      fail(file, extent.tensor, fmt::format("bytes {} to {} belong to no tensor", end, extent.begin));
    end = extent.end;
  }
  if (end != buffer_bytes) {
    throw Error(ErrorCode::bad_file, "{}: the tensors take {} bytes, the file holds {}; is it truncated?", file, end,
                buffer_bytes);
  }
}

void read_metadata(const nlohmann::json& json, const std::string& file,
                   std::map<std::string, std::string, std::less<>>& metadata) {
  if (!json.is_object()) throw Error(ErrorCode::bad_file, "{}: '__metadata__' must map strings to strings", file);
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) throw Error(ErrorCode::bad_file, "{}: '__metadata__' must map strings to strings", file);
    metadata.emplace(key, value.get<std::string>());
  }
}

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  auto file = std::make_shared<MappedFile>(path);
  const std::span<const std::byte> bytes = file->bytes();
  return parse(bytes, path.string(), std::move(file));
}

SafetensorsFile SafetensorsFile::parse(std::span<const std::byte> bytes, std::string name,
                                       std::shared_ptr<const void> keep_alive) {
  SafetensorsFile file(std::move(name));
  file.keep_alive_ = std::move(keep_alive);
  const std::string_view header = read_header(bytes, file.name_);
  const std::span<const std::byte> buffer = bytes.subspan(sizeof(uint64_t) + header.size());
  const nlohmann::json json = parse_strict_json(header, file.name_);

  std::vector<Extent> extents;
  std::vector<std::pair<SafetensorsInfo*, Extent>> placed;
  for (const auto& [tensor, value] : json.items()) {
    if (tensor == kMetadataKey) {
      read_metadata(value, file.name_, file.metadata_);
      continue;
    }
    Entry entry = read_entry(value, tensor, file.name_);
    const auto place = file.tensors_.emplace(tensor, std::move(entry.info)).first;
    entry.extent.tensor = place->first;
    extents.push_back(entry.extent);
    placed.emplace_back(&place->second, entry.extent);
  }
  check_cover(extents, buffer.size(), file.name_);
  for (const auto& [info, extent] : placed) info->bytes = buffer.subspan(extent.begin, extent.end - extent.begin);
  return file;
}

Tensor SafetensorsFile::tensor(std::string_view name) const {
  const auto place = tensors_.find(name);
  if (place == tensors_.end()) throw Error(ErrorCode::bad_file, "{}: tensor {} is missing", name_, quote(name));
  const SafetensorsInfo& info = place->second;
  const ElementType* type = find_element_type(info.dtype);
  if (!type->dtype || info.dims.size() > static_cast<size_t>(Shape::kMaxRank)) {
    throw Error(ErrorCode::unsupported,
                "{}: tensor {} has dtype {} and {} dimensions; expected F32, F16 or BF16 and at most {}", name_,
                quote(name), info.dtype, info.dims.size(), Shape::kMaxRank);
  }
  return Tensor::borrow(*type->dtype, Shape(std::span<const int64_t>(info.dims)), info.bytes, keep_alive_);
}

SafetensorsCheckpoint SafetensorsCheckpoint::open(const std::filesystem::path& directory) {
  SafetensorsCheckpoint checkpoint;
  checkpoint.name_ = directory.string();
  const std::filesystem::path single = directory / "model.safetensors";
  const std::filesystem::path index = directory / "model.safetensors.index.json";
  if (file_exists(single)) {
    checkpoint.shards_.push_back(SafetensorsFile::open(single));
    for (const auto& [tensor, info] : checkpoint.shards_[0].tensors()) checkpoint.shard_of_.emplace(tensor, 0);
    return checkpoint;
  }
  if (!file_exists(index)) {
    throw Error(ErrorCode::not_found, "{}: expected model.safetensors or model.safetensors.index.json, found neither",
                directory.string());
  }
  const std::string name = index.string();
  const nlohmann::json json = parse_strict_json(read_file(index), name);
  const JsonFields fields(json, name);
  const nlohmann::json* map = fields.find("weight_map");
  if (map == nullptr || !map->is_object()) fields.fail("weight_map", "an object from tensor names to files");
  std::map<std::string, size_t, std::less<>> shard_by_file;
  for (const auto& [tensor, value] : map->items()) {
    const std::string file = value.is_string() ? value.get<std::string>() : std::string();
    if (file.empty() || file.find_first_of("/\\") != std::string::npos || file.find('\0') != std::string::npos) {
      throw Error(ErrorCode::bad_file, "{}: tensor {}: expected the name of a file in the same directory, found {}",
                  name, quote(tensor), quote(file));
    }
    const auto [shard, is_new] = shard_by_file.emplace(file, checkpoint.shards_.size());
    if (is_new) checkpoint.shards_.push_back(SafetensorsFile::open(directory / file));
    if (!checkpoint.shards_[shard->second].contains(tensor)) {
      throw Error(ErrorCode::bad_file, "{}: tensor {} is not in {}, where the index says it is", name, quote(tensor),
                  quote(file));
    }
    checkpoint.shard_of_.emplace(tensor, shard->second);
  }
  return checkpoint;
}

std::vector<std::string> SafetensorsCheckpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [name, shard] : shard_of_) names.push_back(name);
  return names;
}

Tensor SafetensorsCheckpoint::tensor(std::string_view name) const {
  const auto place = shard_of_.find(name);
  if (place == shard_of_.end()) throw Error(ErrorCode::bad_file, "{}: tensor {} is missing", name_, quote(name));
  return shards_[place->second].tensor(name);
}

}  // namespace tessera::model
