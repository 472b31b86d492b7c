#include "tessera/model/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "model/quote.h"
#include "tessera/base/mapped_file.h"

namespace tessera::model {
namespace {

static_assert(std::endian::native == std::endian::little, "the readers copy little-endian numbers as they are");

constexpr int64_t kDefaultAlignment = 32;
constexpr uint32_t kMaxRank = 4;
constexpr size_t kMaxTensorName = 63;  // ggml: 64 with the terminator
constexpr int kMaxArrayDepth = 4;
constexpr uint64_t kMinMetadataBytes = 8 + 4 + 1;    // an empty key, a type, a one-byte value
constexpr uint64_t kMinTensorBytes = 8 + 4 + 4 + 8;  // an empty name, rank 0, type, offset

enum class ValueType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

// How many bytes one value takes at least.
uint64_t min_bytes(ValueType type) {
  switch (type) {
    case ValueType::u8:
    case ValueType::i8:
    case ValueType::boolean:
      return 1;
    case ValueType::u16:
    case ValueType::i16:
      return 2;
    case ValueType::u32:
    case ValueType::i32:
    case ValueType::f32:
      return 4;
    case ValueType::string:
    case ValueType::u64:
    case ValueType::i64:
    case ValueType::f64:
      return 8;
    case ValueType::array:
      return 12;
  }
  return 1;
}

struct TensorType {
  uint32_t number;
  const char* name;
  int64_t block_elements;
  int64_t block_bytes;
  std::optional<DType> dtype;  // nothing: known, so that its extent can be checked, but not computed with
};

// Sizes are those of ggml-common.h. Q8_1, of two halves and 32 bytes, is what activations are rounded to and no file
// holds it; gguf-py 0.19 still lists its size of early 2024, 40.
constexpr auto kTensorTypes = std::to_array<TensorType>({
    {0, "F32", 1, 4, DType::f32},
    {1, "F16", 1, 2, DType::f16},
    {2, "Q4_0", 32, 18, DType::q4_0},
    {3, "Q4_1", 32, 20, DType::q4_1},
    {6, "Q5_0", 32, 22, {}},
    {7, "Q5_1", 32, 24, {}},
    {8, "Q8_0", 32, 34, DType::q8_0},
    {9, "Q8_1", 32, 36, {}},
    {10, "Q2_K", 256, 84, {}},
    {11, "Q3_K", 256, 110, {}},
    {12, "Q4_K", 256, 144, {}},
    {13, "Q5_K", 256, 176, {}},
    {14, "Q6_K", 256, 210, {}},
    {15, "Q8_K", 256, 292, {}},
    {16, "IQ2_XXS", 256, 66, {}},
    {17, "IQ2_XS", 256, 74, {}},
    {18, "IQ3_XXS", 256, 98, {}},
    {19, "IQ1_S", 256, 50, {}},
    {20, "IQ4_NL", 32, 18, {}},
    {21, "IQ3_S", 256, 110, {}},
    {22, "IQ2_S", 256, 82, {}},
    {23, "IQ4_XS", 256, 136, {}},
    {24, "I8", 1, 1, {}},
    {25, "I16", 1, 2, {}},
    {26, "I32", 1, 4, {}},
    {27, "I64", 1, 8, {}},
    {28, "F64", 1, 8, {}},
    {29, "IQ1_M", 256, 56, {}},
    {30, "BF16", 1, 2, DType::bf16},
    {34, "TQ1_0", 256, 54, {}},
    {35, "TQ2_0", 256, 66, {}},
    {39, "MXFP4", 32, 17, {}},
});

const TensorType* find_tensor_type(uint32_t number) {
  const auto* found = std::ranges::find(kTensorTypes, number, &TensorType::number);
  return found == kTensorTypes.end() ? nullptr : found;
}

// Reads numbers and strings one after the other; every read is checked against the end of the file.
class Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  uint64_t offset() const { return offset_; }
  uint64_t left() const { return bytes_.size() - offset_; }

  template <typename T>
  T number(const char* what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }

  std::string_view string(const char* what) {
    const auto length = number<uint64_t>(what);
    const std::span<const std::byte> text = take(length, what);
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

 private:
  std::span<const std::byte> take(uint64_t count, const char* what) {
    if (count > left()) {
      throw Error(ErrorCode::bad_file, "{}: the {} at byte {} needs {} bytes, but {} are left; is the file truncated?",
                  file_, what, offset_, count, left());
    }
    const std::span<const std::byte> taken = bytes_.subspan(offset_, count);
    offset_ += count;
    return taken;
  }

  std::span<const std::byte> bytes_;
  const std::string& file_;
  uint64_t offset_ = 0;
};

// Where the parser is, for the messages.
struct Context {
  Reader& reader;
  const std::string& file;
  std::string_view key;
};

[[noreturn]] void fail_value(const Context& context, const std::string& what) {
  throw Error(ErrorCode::bad_file, "{}: key {}: {}", context.file, quote(context.key), what);
}

ValueType read_value_type(const Context& context) {
  const auto type = context.reader.number<uint32_t>("value type");
  if (type > static_cast<uint32_t>(ValueType::f64)) {
    fail_value(context, fmt::format("expected a value type from 0 to 12, found {}", type));
  }
  return static_cast<ValueType>(type);
}

int64_t read_integer(const Context& context, ValueType type) {
  Reader& reader = context.reader;
  switch (type) {
    case ValueType::u8:
      return reader.number<uint8_t>("value");
    case ValueType::i8:
      return reader.number<int8_t>("value");
    case ValueType::u16:
      return reader.number<uint16_t>("value");
    case ValueType::i16:
      return reader.number<int16_t>("value");
    case ValueType::u32:
      return reader.number<uint32_t>("value");
    case ValueType::i32:
      return reader.number<int32_t>("value");
    case ValueType::i64:
      return reader.number<int64_t>("value");
    default:
      break;
  }
  const auto value = reader.number<uint64_t>("value");
  if (value > static_cast<uint64_t>(INT64_MAX)) fail_value(context, fmt::format("{} is above 2^63 - 1", value));
  return static_cast<int64_t>(value);
}

double read_float(const Context& context, ValueType type) {
  if (type == ValueType::f32) return context.reader.number<float>("value");
  return context.reader.number<double>("value");
}

bool read_bool(const Context& context) {
  const auto value = context.reader.number<uint8_t>("value");
  if (value > 1) fail_value(context, fmt::format("expected a bool of 0 or 1, found {}", value));
  return value == 1;
}

GgufValue read_array(const Context& context, int depth);

GgufValue read_value(const Context& context, ValueType type) {
  switch (type) {
    case ValueType::f32:
    case ValueType::f64:
      return read_float(context, type);
    case ValueType::boolean:
      return read_bool(context);
    case ValueType::string:
      return std::string(context.reader.string("string"));
    case ValueType::array:
      return read_array(context, 1);
    default:
      return read_integer(context, type);
  }
}

template <typename T, typename ReadOne>
std::vector<T> read_elements(uint64_t count, const ReadOne& read_one) {
  std::vector<T> elements;
  elements.reserve(count);
  for (uint64_t i = 0; i < count; ++i) elements.push_back(read_one());
  return elements;
}

GgufValue read_array(const Context& context, int depth) {
  if (depth > kMaxArrayDepth) fail_value(context, fmt::format("arrays nested deeper than {} levels", kMaxArrayDepth));
  const ValueType type = read_value_type(context);
  const auto count = context.reader.number<uint64_t>("array count");
  if (count > context.reader.left() / min_bytes(type)) {
    fail_value(context,
               fmt::format("an array of {} elements does not fit into the {} bytes left; is the file truncated?", count,
                           context.reader.left()));
  }
  switch (type) {
    case ValueType::f32:
    case ValueType::f64:
      return read_elements<double>(count, [&] { return read_float(context, type); });
    case ValueType::boolean:
      return read_elements<bool>(count, [&] { return read_bool(context); });
    case ValueType::string:
      return read_elements<std::string>(count, [&] { return std::string(context.reader.string("string")); });
    case ValueType::array:
      for (uint64_t i = 0; i < count; ++i) read_array(context, depth + 1);
      return GgufNestedArray{};
    default:
      return read_elements<int64_t>(count, [&] { return read_integer(context, type); });
  }
}

void check_text(const std::string& file, const char* what, std::string_view text) {
  if (text.empty() || !is_utf8(text) || text.find('\0') != std::string_view::npos) {
    throw Error(ErrorCode::bad_file, "{}: the {} {} is empty or not UTF-8 text", file, what, quote(text));
  }
}

struct Header {
  uint64_t tensors = 0;
  uint64_t metadata = 0;
};

Header read_header(Reader& reader, const std::string& file) {
  std::array<char, 4> magic = {};
  for (char& letter : magic) letter = reader.number<char>("magic");
  const std::string_view found(magic.data(), magic.size());
  if (found != "GGUF") {
    throw Error(ErrorCode::bad_file, "{}: expected the magic 'GGUF', found {}; is this a GGUF file?", file,
                quote(found));
  }
  const auto version = reader.number<uint32_t>("version");
  if (version != 0 && (version & 0xFFFFU) == 0) {
    throw Error(ErrorCode::unsupported,
                "{}: the version's bytes are swapped: a big-endian GGUF; convert it to little-endian", file);
  }
  if (version != 2 && version != 3) {
    throw Error(ErrorCode::unsupported,
                "{}: expected GGUF version 2 or 3, found {}; convert the file with a current tool", file, version);
  }
  Header header;
  header.tensors = reader.number<uint64_t>("tensor count");
  header.metadata = reader.number<uint64_t>("metadata count");
  if (header.metadata > reader.left() / kMinMetadataBytes || header.tensors > reader.left() / kMinTensorBytes) {
    throw Error(ErrorCode::bad_file, "{}: {} metadata entries and {} tensors do not fit into a file of {} bytes", file,
                header.metadata, header.tensors, reader.offset() + reader.left());
  }
  return header;
}

void read_metadata(Reader& reader, uint64_t count, GgufMetadata& metadata) {
  for (uint64_t i = 0; i < count; ++i) {
    const std::string_view key = reader.string("key");
    check_text(metadata.name(), "key", key);
    const Context context{reader, metadata.name(), key};
    metadata.add(std::string(key), read_value(context, read_value_type(context)));
  }
}

uint64_t read_alignment(const GgufMetadata& metadata) {
  const int64_t alignment = metadata.find_integer("general.alignment").value_or(kDefaultAlignment);
  if (alignment <= 0 || !std::has_single_bit(static_cast<uint64_t>(alignment))) {
    throw Error(ErrorCode::bad_file, "{}: general.alignment must be a power of two, found {}", metadata.name(),
                alignment);
  }
  return static_cast<uint64_t>(alignment);
}

// One line of the tensor table before its bytes are known.
struct TableEntry {
  std::string_view name;
  GgufTensorInfo info;
  uint64_t offset = 0;  // relative to the data
  uint64_t size = 0;    // bytes
};

uint64_t size_in_bytes(const TableEntry& entry, const std::string& file) {
  const TensorType* type = find_tensor_type(entry.info.type);
  if (type == nullptr) {
    throw Error(ErrorCode::unsupported, "{}: tensor {} has the unknown type {}", file, quote(entry.name),
                entry.info.type);
  }
  constexpr int64_t kLimit = int64_t{1} << 58;  // elements; keeps every byte count below 2^63
  int64_t elements = 1;
  for (const int64_t dim : entry.info.dims) {
    if (dim < 0 || (dim > 0 && elements > kLimit / dim)) {
      throw Error(ErrorCode::bad_file, "{}: tensor {}: the dimensions multiply to more than 2^58 elements", file,
                  quote(entry.name));
    }
    elements *= dim;
  }
  const int64_t row = entry.info.dims.empty() ? 1 : entry.info.dims.back();
  if (row % type->block_elements != 0) {
    throw Error(ErrorCode::bad_file, "{}: tensor {}: rows of {} elements are not whole blocks of {} ({})", file,
                quote(entry.name), row, type->block_elements, type->name);
  }
  return static_cast<uint64_t>(elements / type->block_elements * type->block_bytes);
}

TableEntry read_table_entry(Reader& reader, const std::string& file) {
  TableEntry entry;
  entry.name = reader.string("tensor name");
  check_text(file, "tensor name", entry.name);
  if (entry.name.size() > kMaxTensorName) {
    throw Error(ErrorCode::bad_file, "{}: tensor name {} is longer than {} bytes", file, quote(entry.name),
                kMaxTensorName);
  }
  const auto rank = reader.number<uint32_t>("tensor rank");
  if (rank > kMaxRank) {
    throw Error(ErrorCode::bad_file, "{}: tensor {}: expected at most {} dimensions, found {}", file, quote(entry.name),
                kMaxRank, rank);
  }
  for (uint32_t axis = 0; axis < rank; ++axis) {
    entry.info.dims.push_back(static_cast<int64_t>(reader.number<uint64_t>("dimension")));
  }
  std::ranges::reverse(entry.info.dims);
  entry.info.type = reader.number<uint32_t>("tensor type");
  entry.offset = reader.number<uint64_t>("tensor offset");
  entry.size = size_in_bytes(entry, file);
  return entry;
}

// Every entry lies inside `data`, starts at a multiple of the alignment and shares no byte with another.
void check_extents(std::vector<TableEntry>& entries, uint64_t data_bytes, uint64_t alignment, const std::string& file) {
  std::ranges::sort(entries, {}, [](const TableEntry& entry) { return std::pair(entry.offset, entry.size); });
  uint64_t end = 0;
  for (const TableEntry& entry : entries) {
    if (entry.offset % alignment != 0) {
      throw Error(ErrorCode::bad_file, "{}: tensor {}: offset {} is not a multiple of the alignment {}", file,
                  quote(entry.name), entry.offset, alignment);
    }
    if (entry.offset > data_bytes || entry.size > data_bytes - entry.offset) {
      throw Error(ErrorCode::bad_file,
                  "{}: tensor {}: {} bytes at offset {} lie outside the {} bytes of data; is the file truncated?", file,
                  quote(entry.name), entry.size, entry.offset, data_bytes);
    }
    if (entry.size > 0 && entry.offset < end) {
      throw Error(ErrorCode::bad_file, "{}: tensor {} at offset {} overlaps another one", file, quote(entry.name),
                  entry.offset);
    }
    end = std::max(end, entry.offset + entry.size);
  }
}

}  // namespace

GgufFile GgufFile::open(const std::filesystem::path& path) {
  auto file = std::make_shared<MappedFile>(path);
  const std::span<const std::byte> bytes = file->bytes();
  return parse(bytes, path.string(), std::move(file));
}

GgufFile GgufFile::parse(std::span<const std::byte> bytes, std::string name, std::shared_ptr<const void> keep_alive) {
  GgufFile file(std::move(name));
  file.keep_alive_ = std::move(keep_alive);
  const std::string& path = file.metadata_.name();
  Reader reader(bytes, path);
  const Header header = read_header(reader, path);
  read_metadata(reader, header.metadata, file.metadata_);
  const uint64_t alignment = read_alignment(file.metadata_);

  std::vector<TableEntry> entries;
  for (uint64_t i = 0; i < header.tensors; ++i) entries.push_back(read_table_entry(reader, path));

  const uint64_t padding = (alignment - reader.offset() % alignment) % alignment;
  const uint64_t data_begin = reader.offset() + std::min(padding, reader.left());
  const std::span<const std::byte> data = bytes.subspan(data_begin);
  check_extents(entries, data.size(), alignment, path);

  for (TableEntry& entry : entries) {
    entry.info.bytes = data.subspan(entry.offset, entry.size);
    const auto [place, added] = file.tensors_.try_emplace(std::string(entry.name), std::move(entry.info));
    if (!added) throw Error(ErrorCode::bad_file, "{}: tensor {} appears twice", path, quote(place->first));
  }
  return file;
}

Tensor GgufFile::tensor(std::string_view name) const {
  const auto place = tensors_.find(name);
  if (place == tensors_.end()) {
    throw Error(ErrorCode::bad_file, "{}: tensor {} is missing", metadata_.name(), quote(name));
  }
  const GgufTensorInfo& info = place->second;
  const TensorType* type = find_tensor_type(info.type);
  if (!type->dtype) {
    throw Error(ErrorCode::unsupported,
                "{}: tensor {} is stored as {}; expected F32, F16, BF16, Q8_0, Q4_0 or Q4_1; requantise the model",
                metadata_.name(), quote(name), type->name);
  }
  return Tensor::borrow(*type->dtype, Shape(std::span<const int64_t>(info.dims)), info.bytes, keep_alive_);
}

}  // namespace tessera::model
