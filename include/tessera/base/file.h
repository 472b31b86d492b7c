// Small whole-file reads and writes that never leave anything half-written.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace tessera {

// The whole content of a file. Throws Error(not_found) or Error(io).
std::string read_file(const std::filesystem::path& path);

// Writes `content` to a temporary file beside `path`, flushes it to the disk and renames it over `path`; a reader sees the
// old file or the new one. Throws Error(io) and removes the temporary file on failure.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

// Parses a JSON file. Throws Error(bad_file) naming the file and the byte of the first fault.
nlohmann::json read_json(const std::filesystem::path& path);

// Parses JSON text; `name` stands for the text in the error message. Depth is limited, so hostile nesting cannot exhaust
// the stack.
nlohmann::json parse_json(std::string_view text, std::string_view name);

// Appends whole lines to a file: each line is one write, flushed to the disk before `append` returns, so that a killed
// program loses at most the line in flight. On opening, an unfinished last line (no newline) is cut off.
class LineLog {
 public:
  explicit LineLog(const std::filesystem::path& path);
  ~LineLog();
  LineLog(const LineLog&) = delete;
  LineLog& operator=(const LineLog&) = delete;

  // `line` without newline.
  void append(std::string_view line);

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace tessera
