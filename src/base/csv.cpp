#include "tessera/base/csv.h"

#include <algorithm>

#include "tessera/base/error.h"

namespace tessera {
namespace {

constexpr size_t kMaxColumns = 100000;

}  // namespace

CsvRecords::CsvRecords(std::string_view text, std::string_view name) : text_(text), name_(name) {
  if (text_.starts_with("\xEF\xBB\xBF")) text_.remove_prefix(3);
}

bool CsvRecords::next(std::vector<std::string>& fields, int64_t& line) {
  fields.clear();
  while (at_ < text_.size() && (text_[at_] == '\n' || text_[at_] == '\r')) skip_line_end();  // blank lines
  if (at_ >= text_.size()) return false;
  line = line_;
  for (;;) {
    fields.push_back(field());
    if (fields.size() > kMaxColumns)
      throw Error(ErrorCode::limit_exceeded, "{}: row {} has more than {} columns", name_, line, kMaxColumns);
    if (at_ >= text_.size()) return true;
    if (text_[at_] == ',') {
      ++at_;
      continue;
    }
    skip_line_end();
    return true;
  }
}

void CsvRecords::skip_line_end() {
  if (text_[at_] == '\r') ++at_;
  if (at_ < text_.size() && text_[at_] == '\n') ++at_;
  ++line_;
}

std::string CsvRecords::field() {
  if (at_ < text_.size() && text_[at_] == '"') return quoted();
  const size_t end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
  std::string_view raw = text_.substr(at_, end - at_);
  at_ = end;
  while (!raw.empty() && (raw.front() == ' ' || raw.front() == '\t')) raw.remove_prefix(1);
  while (!raw.empty() && (raw.back() == ' ' || raw.back() == '\t')) raw.remove_suffix(1);
  return std::string(raw);
}

std::string CsvRecords::quoted() {
  const int64_t start = line_;
  std::string value;
  ++at_;
  for (;;) {
    if (at_ >= text_.size()) throw Error(ErrorCode::bad_file, "{}: row {}: a quoted field is not closed", name_, start);
    const char c = text_[at_++];
    if (c == '\n') ++line_;
    if (c != '"') {
      value += c;
    } else if (at_ < text_.size() && text_[at_] == '"') {
      value += '"';
      ++at_;
    } else {
      break;
    }
  }
  if (at_ < text_.size() && text_[at_] != ',' && text_[at_] != '\r' && text_[at_] != '\n') {
    throw Error(ErrorCode::bad_file, "{}: row {}: text follows a closing quote; expected a comma", name_, start);
  }
  return value;
}

}  // namespace tessera
