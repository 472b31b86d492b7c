#include "tessera/base/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tessera/base/error.h"

namespace tessera {
namespace {

constexpr int kMaxJsonDepth = 200;

// Writes everything or throws; `path` is for the message only.
void write_all(int descriptor, std::string_view content, const std::filesystem::path& path) {
  while (!content.empty()) {
    const ssize_t written = write(descriptor, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) throw Error(ErrorCode::io, "{}: cannot write: {}", path.string(), std::strerror(errno));
    content.remove_prefix(static_cast<size_t>(written));
  }
  if (fsync(descriptor) != 0 && errno != EINVAL) {
    throw Error(ErrorCode::io, "{}: cannot flush to the disk: {}", path.string(), std::strerror(errno));
  }
}

}  // namespace

std::string read_file(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) {
    const bool exists = std::filesystem::exists(path);
    throw Error(exists ? ErrorCode::io : ErrorCode::not_found, "{}: cannot open the file: {}", path.string(),
                exists ? "is it readable?" : "no such file");
  }
  std::ostringstream content;
  content << stream.rdbuf();
  if (stream.bad() || std::filesystem::is_directory(path)) {
    throw Error(ErrorCode::io, "{}: cannot read {}; expected a regular file", path.string(),
                std::filesystem::is_directory(path) ? "a folder" : "it");
  }
  return std::move(content).str();
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content) {
  const std::filesystem::path temporary = path.string() + ".tmp" + std::to_string(getpid());
  const int descriptor = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0) {
    throw Error(ErrorCode::io, "{}: cannot create the file: {}", path.string(), std::strerror(errno));
  }
  try {
    write_all(descriptor, content, path);
    close(descriptor);
  } catch (...) {
    close(descriptor);
    unlink(temporary.c_str());
    throw;
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    const int reason = errno;
    unlink(temporary.c_str());
    throw Error(ErrorCode::io, "{}: cannot rename the finished file into place: {}", path.string(), std::strerror(reason));
  }
}

nlohmann::json parse_json(std::string_view text, std::string_view name) {
  try {
    const auto limit_depth = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
      if (depth > kMaxJsonDepth) {
        throw Error(ErrorCode::bad_file, "{}: JSON nested deeper than {} levels", name, kMaxJsonDepth);
      }
      return true;
    };
    return nlohmann::json::parse(text, limit_depth);
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorCode::bad_file, "{}: not valid JSON: {}", name, error.what());
  }
}

nlohmann::json read_json(const std::filesystem::path& path) { return parse_json(read_file(path), path.string()); }

LineLog::LineLog(const std::filesystem::path& path) : path_(path) {
  descriptor_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) throw Error(ErrorCode::io, "{}: cannot open for appending: {}", path.string(), std::strerror(errno));
  off_t end = lseek(descriptor_, 0, SEEK_END);
  while (end > 0) {  // cut an unfinished last line
    char last = '\n';
    if (pread(descriptor_, &last, 1, end - 1) != 1 || last == '\n') break;
    --end;
  }
  if (ftruncate(descriptor_, end) != 0 || lseek(descriptor_, end, SEEK_SET) < 0) {
    const int reason = errno;
    close(descriptor_);
    throw Error(ErrorCode::io, "{}: cannot prepare for appending: {}", path.string(), std::strerror(reason));
  }
}

LineLog::~LineLog() { close(descriptor_); }

void LineLog::append(std::string_view line) { write_all(descriptor_, std::string(line) + "\n", path_); }

}  // namespace tessera
