#include <algorithm>

#include "experts/data/class_names.h"
#include "experts/data/table.h"
#include "tessera/base/csv.h"
#include "tessera/base/error.h"
#include "tessera/experts/dataset.h"

namespace tessera::experts {
namespace {

size_t label_column(const std::vector<std::string>& header, const std::string& wanted, std::string_view name) {
  const auto find = [&](const std::string& column) {
    return static_cast<size_t>(std::find(header.begin(), header.end(), column) - header.begin());
  };
  if (!wanted.empty()) {
    if (find(wanted) < header.size()) return find(wanted);
    throw Error(ErrorCode::not_found, "{}: column '{}' is not in the table", name, wanted);
  }
  for (const char* usual : {"class", "label", "y"}) {
    if (find(usual) < header.size()) return find(usual);
  }
  return header.size() - 1;
}

}  // namespace

Dataset parse_csv_dataset(std::string_view text, std::string_view name, const DatasetOptions& options) {
  CsvRecords records(text, name);
  std::vector<std::string> header, fields, texts;
  std::vector<int64_t> lines;
  int64_t line = 0;
  if (!records.next(header, line) || header.size() < 2) {
    throw Error(ErrorCode::bad_file, "{}: expected a line of at least two column names", name);
  }
  const size_t label = label_column(header, options.label_column, name);
  std::vector<std::string> features = header;
  features.erase(features.begin() + static_cast<std::ptrdiff_t>(label));
  if (holds_values(features)) {
    throw Error(ErrorCode::bad_file, "{}: expected a first line of column names, found numbers; put names above them",
                name);
  }
  Dataset data{.features = static_cast<int64_t>(header.size()) - 1, .classes = options.classes};
  while (records.next(fields, line)) {
    if (fields.size() != header.size()) {
      throw Error(ErrorCode::bad_file, "{}: row {} has {} fields; the first row names {} columns", name, line,
                  fields.size(), header.size());
    }
    for (size_t j = 0; j < fields.size(); ++j) {
      if (j != label) data.values.push_back(csv_number(fields[j], name, line, header[j]));
    }
    texts.push_back(fields[label]);
    lines.push_back(line);
  }
  data.rows = static_cast<int64_t>(texts.size());
  if (data.rows == 0) throw Error(ErrorCode::bad_file, "{}: holds column names but no row", name);
  number_classes(texts, lines, name, data.classes, data.labels);
  return data;
}

}  // namespace tessera::experts
