// Comma-separated text, record by record (RFC 4180: quotes, doubled quotes, CRLF; blank lines are skipped).
//
//   CsvRecords records(text, "data.csv");
//   std::vector<std::string> fields;
//   for (int64_t line = 0; records.next(fields, line);) { ... }
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

class CsvRecords {
 public:
  // Both must outlive the reader; `name` stands for the text in messages. A UTF-8 byte order mark is skipped.
  CsvRecords(std::string_view text, std::string_view name);

  // False at the end. line: one-based number of the record's first line. Blanks around unquoted fields are dropped.
  // Throws Error(bad_file) naming the line of a quote that is not closed or is followed by text, and
  // Error(limit_exceeded) for more than 100,000 fields.
  bool next(std::vector<std::string>& fields, int64_t& line);

 private:
  void skip_line_end();
  std::string field();
  std::string quoted();

  std::string_view text_;
  std::string_view name_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

}  // namespace tessera
