// The file of a table's index: a page with magic, sizes and a checksum; values; row numbers; nodes; the rest as JSON.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "explain/index_content.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"

namespace tessera::explain {
namespace {

constexpr size_t kPage = 4096;
constexpr std::array<char, 8> kMagic = {'T', 'E', 'S', 'S', 'I', 'D', 'X', '1'};
constexpr int64_t kSampledRows = 64;

struct FileHeader {
  std::array<char, 8> magic = kMagic;
  uint32_t byte_order = 0x01020304;
  uint32_t reserved = 0;
  uint64_t rows = 0, dimensions = 0, nodes = 0, json_bytes = 0;
  uint64_t checksum = 0;  // of the JSON
};

uint64_t hash_bytes(const void* data, size_t size, uint64_t hash = 0xcbf29ce484222325) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  for (size_t i = 0; i < size; ++i) hash = (hash ^ bytes[i]) * 0x100000001b3;
  return hash;
}

size_t order_offset(uint64_t rows, uint64_t dimensions) { return kPage + rows * dimensions * sizeof(float); }
size_t node_offset(uint64_t rows, uint64_t dimensions) {
  return (order_offset(rows, dimensions) + rows * sizeof(uint32_t) + 15) / 16 * 16;
}

nlohmann::json content_json(const TableIndex::Content& content, const std::string& description) {
  nlohmann::json json = {{"table", description}, {"largest", content.largest}};
  for (const ColumnStatistics& c : content.statistics)
    json["statistics"].push_back({c.mean, c.deviation, c.low, c.high});
  for (const auto& count : content.level_count) json["levels"].push_back(count);
  for (const IndexCell& cell : content.cells)
    json["cells"].push_back({{"begin", cell.begin}, {"end", cell.end}, {"root", cell.root}, {"codes", cell.codes}});
  for (const auto& [column, range] : content.outputs) json["outputs"].push_back({column, range.first, range.second});
  return json;
}

void read_json_part(const nlohmann::json& json, TableIndex::Content& content) {
  content.largest = json.at("largest");
  for (const auto& c : json.at("statistics")) content.statistics.push_back({c.at(0), c.at(1), c.at(2), c.at(3)});
  for (const auto& count : json.at("levels"))
    content.level_count.push_back(count.is_null() ? std::vector<int64_t>() : count.get<std::vector<int64_t>>());
  for (const auto& output : json.value("outputs", nlohmann::json::array()))
    content.outputs[output.at(0)] = {output.at(1), output.at(2)};
  for (const auto& cell : json.at("cells")) {
    content.cells.push_back(
        {cell.at("begin"), cell.at("end"), cell.at("root"), cell.at("codes").get<std::vector<int32_t>>()});
  }
}

// A search follows nodes without checking: they must form trees over the cells' positions.
bool sound(const TableIndex::Content& content, int64_t dimensions) {
  int64_t position = 0;
  std::vector<uint8_t> depth(content.nodes.size(), 0);
  for (size_t k = 0; k < content.cells.size(); ++k) {
    const IndexCell& cell = content.cells[k];
    const int64_t last =
        k + 1 < content.cells.size() ? content.cells[k + 1].root : static_cast<int64_t>(content.nodes.size());
    if (cell.begin != position || cell.end < cell.begin || cell.end > content.rows || cell.root < 0 ||
        cell.root >= last || last > static_cast<int64_t>(content.nodes.size())) {
      return false;
    }
    for (int64_t i = cell.root; i < last; ++i) {
      const IndexNode& node = content.nodes[static_cast<size_t>(i)];
      if (node.dimension == kLeaf) {
        if (node.first < cell.begin || static_cast<int64_t>(node.first) + node.count > cell.end) return false;
        continue;
      }
      if (node.dimension < 0 || node.dimension >= dimensions || static_cast<int64_t>(node.first) <= i + 1 ||
          static_cast<int64_t>(node.first) >= last || depth[static_cast<size_t>(i)] > kDeepestNode) {
        return false;
      }
      const auto below = static_cast<uint8_t>(depth[static_cast<size_t>(i)] + 1);
      depth[static_cast<size_t>(i) + 1] = std::max(depth[static_cast<size_t>(i) + 1], below);
      depth[node.first] = std::max(depth[node.first], below);
    }
    position = cell.end;
  }
  return position == content.rows;
}

}  // namespace

struct IndexFileWriter::State {
  std::filesystem::path path, temporary;
  int descriptor = -1;
  std::byte* data = nullptr;
  size_t size = 0;
  uint64_t rows = 0, dimensions = 0;

  [[noreturn]] void fail(const char* what) const {
    throw Error(ErrorCode::io, "{}: cannot {} the index: {}", path.string(), what, std::strerror(errno));
  }
  void write_at(const void* bytes, size_t count, size_t offset) const {
    const auto* from = static_cast<const char*>(bytes);
    while (count > 0) {
      const ssize_t written = pwrite(descriptor, from, count, static_cast<off_t>(offset));
      if (written <= 0) fail("write");
      from += written;
      offset += static_cast<size_t>(written);
      count -= static_cast<size_t>(written);
    }
  }
};

IndexFileWriter::IndexFileWriter(std::filesystem::path path, int64_t rows, int64_t dimensions)
    : state_(std::make_unique<State>()) {
  state_->path = std::move(path);
  state_->temporary = state_->path.string() + fmt::format(".partial-{}", getpid());
  state_->rows = static_cast<uint64_t>(rows);
  state_->dimensions = static_cast<uint64_t>(dimensions);
  state_->size = node_offset(state_->rows, state_->dimensions);
  state_->descriptor = open(state_->temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (state_->descriptor < 0) state_->fail("create");
  // Space is taken now: writing to a mapping of a full disk would kill the program.
  if (const int error = posix_fallocate(state_->descriptor, 0, static_cast<off_t>(state_->size)); error != 0) {
    close(state_->descriptor);
    unlink(state_->temporary.c_str());
    errno = error;
    state_->fail("find room for");
  }
  void* mapped = mmap(nullptr, state_->size, PROT_READ | PROT_WRITE, MAP_SHARED, state_->descriptor, 0);
  if (mapped == MAP_FAILED) {
    close(state_->descriptor);
    unlink(state_->temporary.c_str());
    state_->fail("map");
  }
  state_->data = static_cast<std::byte*>(mapped);
}

IndexFileWriter::~IndexFileWriter() {
  if (state_->data != nullptr) munmap(state_->data, state_->size);
  if (state_->descriptor >= 0) {
    close(state_->descriptor);
    unlink(state_->temporary.c_str());
  }
}

float* IndexFileWriter::values() const { return reinterpret_cast<float*>(state_->data + kPage); }
uint32_t* IndexFileWriter::order() const {
  return reinterpret_cast<uint32_t*>(state_->data + order_offset(state_->rows, state_->dimensions));
}

void IndexFileWriter::finish(const TableIndex::Content& content, const std::string& description) {
  const std::string json = content_json(content, description).dump();
  FileHeader header;
  header.rows = state_->rows;
  header.dimensions = state_->dimensions;
  header.nodes = content.nodes.size();
  header.json_bytes = json.size();
  header.checksum = hash_bytes(json.data(), json.size());
  std::memcpy(state_->data, &header, sizeof(header));
  if (munmap(state_->data, state_->size) != 0) state_->fail("unmap");
  state_->data = nullptr;
  state_->write_at(content.nodes.data(), content.nodes.size_bytes(), state_->size);
  state_->write_at(json.data(), json.size(), state_->size + content.nodes.size_bytes());
  if (fsync(state_->descriptor) != 0) state_->fail("flush");
  close(state_->descriptor);
  state_->descriptor = -1;
  if (std::rename(state_->temporary.c_str(), state_->path.c_str()) != 0) state_->fail("rename");
}

std::string describe_table(const TableView& inputs, std::span<const Feature> features) {
  std::string text = fmt::format("{} rows", inputs.rows);
  for (const Feature& feature : features) {
    uint64_t levels = hash_bytes("", 0);
    for (const std::string& level : feature.levels) levels = hash_bytes(level.c_str(), level.size() + 1, levels);
    text += fmt::format("; {} {} {} {:x}", feature.name, to_string(feature.kind), feature.levels.size(), levels);
  }
  uint64_t sampled = hash_bytes("", 0);
  for (int64_t k = 0; k < kSampledRows && inputs.rows > 0; ++k) {
    for (int64_t j = 0; j < inputs.columns; ++j) {
      const double value = inputs.at(k * (inputs.rows - 1) / (kSampledRows - 1), j);
      sampled = hash_bytes(&value, sizeof(value), sampled);
    }
  }
  return text + fmt::format("; sampled {:x}", sampled);
}

std::unique_ptr<TableIndex::Content> read_index_file(const std::filesystem::path& path, int64_t dimensions,
                                                     const std::string& description) {
  auto content = std::make_unique<TableIndex::Content>();
  content->file = std::make_unique<MappedFile>(path);
  const std::span<const std::byte> bytes = content->file->bytes();
  FileHeader header;
  const auto damaged = [&](bool fault) {
    if (fault)
      throw Error(ErrorCode::bad_file, "{}: the index is damaged; delete it to have it built again", path.string());
  };
  if (bytes.size() < kPage || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    throw Error(ErrorCode::bad_file, "{}: expected an index made by tessera explain, found another format",
                path.string());
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  damaged(header.byte_order != FileHeader().byte_order);
  const uint64_t most = bytes.size();
  damaged(header.rows > most || header.dimensions > most || header.nodes > most || header.json_bytes > most);
  damaged(header.dimensions > 0 && header.rows > most / header.dimensions);
  const size_t nodes_at = node_offset(header.rows, header.dimensions);
  const size_t json_at = nodes_at + header.nodes * sizeof(IndexNode);
  damaged(json_at + header.json_bytes != bytes.size());
  const std::string_view json(reinterpret_cast<const char*>(bytes.data() + json_at), header.json_bytes);
  damaged(hash_bytes(json.data(), json.size()) != header.checksum);
  const nlohmann::json parsed = parse_json(json, path.string());
  if (parsed.value("table", "") != description || static_cast<int64_t>(header.dimensions) != dimensions) {
    throw Error(ErrorCode::invalid_argument,
                "{}: this is the index of another table (or of other columns of it); delete it to have it built again",
                path.string());
  }
  content->rows = static_cast<int64_t>(header.rows);
  read_json_part(parsed, *content);
  content->values = {reinterpret_cast<const float*>(bytes.data() + kPage), header.rows * header.dimensions};
  content->order = {reinterpret_cast<const uint32_t*>(bytes.data() + order_offset(header.rows, header.dimensions)),
                    header.rows};
  content->nodes = {reinterpret_cast<const IndexNode*>(bytes.data() + nodes_at), header.nodes};
  damaged(!sound(*content, dimensions));
  return content;
}

}  // namespace tessera::explain
