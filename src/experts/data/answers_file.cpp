#include "tessera/experts/answers_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "experts/data/table.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"

namespace tessera::experts {
namespace {

using ClassNumbers = std::map<std::string, int32_t, std::less<>>;

ClassNumbers number_by_name(std::span<const std::string> names) {
  ClassNumbers numbers;
  for (size_t k = 0; k < names.size(); ++k) numbers[names[k]] = static_cast<int32_t>(k);
  return numbers;
}

int32_t label_from_number(float value, int classes, std::string_view name, const std::string& where) {
  if (!(value >= -1 && value < static_cast<float>(classes)) || value != std::floor(value)) {
    throw Error(ErrorCode::bad_file, "{}: {}: expected a class number from 0 to {}, or -1: not asked; found {}", name,
                where, classes - 1, value);
  }
  return static_cast<int32_t>(value);
}

void refuse_columns(std::string_view name, size_t found, int64_t places, size_t experts) {
  throw Error(ErrorCode::bad_file,
              "{}: expected {} columns of probabilities or {} of labels, as the design says; found {}", name, places,
              experts, found);
}

Answers answers_from_npy(std::string_view bytes, std::string_view name, const DesignFile& file) {
  Matrix matrix = parse_npy(bytes, name);
  const size_t experts = file.design.sets.size();
  Answers answers{.inputs = matrix.rows};
  if (matrix.columns == static_cast<int64_t>(experts)) {
    for (size_t k = 0; k < matrix.values.size(); ++k) {
      answers.labels.push_back(label_from_number(matrix.values[k], file.design.classes, name,
                                                 fmt::format("input {}, expert {}", k / experts, k % experts)));
    }
  } else if (matrix.columns == answer_columns(file.design)) {
    answers.probabilities = std::move(matrix.values);
  } else {
    refuse_columns(name, static_cast<size_t>(matrix.columns), answer_columns(file.design), experts);
  }
  return answers;
}

Answers answers_from_csv(std::string_view text, std::string_view name, const DesignFile& file) {
  CsvTable table = parse_csv_table(text, name);
  const size_t experts = file.design.sets.size();
  const bool labels = table.header.size() == experts;
  if (!labels && static_cast<int64_t>(table.header.size()) != answer_columns(file.design)) {
    refuse_columns(name, table.header.size(), answer_columns(file.design), experts);
  }
  const std::vector<std::string> names = names_of(file);
  const ClassNumbers numbers = number_by_name(names);
  const auto is_class = [&](const std::string& field) { return numbers.contains(field); };
  const bool classes_first = labels && !file.class_names.empty() && std::ranges::all_of(table.header, is_class);
  if (holds_values(table.header) || classes_first) header_to_row(table);
  Answers answers{.inputs = static_cast<int64_t>(table.rows.size())};
  for (size_t i = 0; i < table.rows.size(); ++i) {
    for (size_t j = 0; j < table.header.size(); ++j) {
      const std::string& field = table.rows[i][j];
      if (!labels) {
        answers.probabilities.push_back(csv_number(field, name, table.lines[i], table.header[j]));
        continue;
      }
      const auto known = numbers.find(field);
      if (field.empty()) {
        answers.labels.push_back(-1);
      } else if (known != numbers.end()) {
        answers.labels.push_back(known->second);
      } else {
        answers.labels.push_back(
            label_from_number(csv_number(field, name, table.lines[i], table.header[j]), file.design.classes, name,
                              fmt::format("row {}, column '{}'", table.lines[i], table.header[j])));
      }
    }
  }
  return answers;
}

std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) {
    const bool blank = text.empty() || text.front() == ' ' || text.back() == ' ';
    if (!blank) return text;
  }
  std::string result = "\"";
  for (const char c : text) result += c == '"' ? "\"\"" : std::string(1, c);
  return result + "\"";
}

bool wants_npy(const std::filesystem::path& path) { return path.extension() == ".npy"; }

size_t truth_column(const CsvTable& table, std::string_view name) {
  if (table.header.size() == 1) return 0;
  for (const char* usual : {"class", "label", "y"}) {
    const auto at = std::find(table.header.begin(), table.header.end(), usual);
    if (at != table.header.end()) return static_cast<size_t>(at - table.header.begin());
  }
  throw Error(ErrorCode::bad_file, "{}: expected one column, or one named class, label or y, found {} others", name,
              table.header.size());
}

}  // namespace

std::vector<std::string> names_of(const DesignFile& design) {
  if (!design.class_names.empty()) return design.class_names;
  std::vector<std::string> names;
  for (int k = 0; k < design.design.classes; ++k) names.push_back(std::to_string(k));
  return names;
}

Answers parse_answers(std::string_view bytes, std::string_view name, const DesignFile& design) {
  Answers answers = is_npy(bytes) ? answers_from_npy(bytes, name, design) : answers_from_csv(bytes, name, design);
  if (answers.inputs == 0) throw Error(ErrorCode::bad_file, "{}: holds no input", name);
  check_answers(design.design, answers, name);
  return answers;
}

Answers read_answers(const std::filesystem::path& path, const DesignFile& design) {
  return parse_answers(inflate(read_file(path), path.string()), path.string(), design);
}

std::vector<float> read_gate(const std::filesystem::path& path, const Design& design, int64_t inputs) {
  Matrix matrix = parse_matrix(inflate(read_file(path), path.string()), path.string());
  if (matrix.rows != inputs || matrix.columns != static_cast<int64_t>(design.sets.size())) {
    throw Error(ErrorCode::bad_file, "{}: expected {} inputs x {} experts, found {} x {}", path.string(), inputs,
                design.sets.size(), matrix.rows, matrix.columns);
  }
  return std::move(matrix.values);
}

std::vector<int32_t> read_truth(const std::filesystem::path& path, std::span<const std::string> classes,
                                int64_t inputs) {
  const std::string name = path.string(), bytes = inflate(read_file(path), name);
  std::vector<int32_t> truth;
  if (is_npy(bytes)) {
    const Matrix matrix = parse_npy(bytes, name);
    if (matrix.columns != 1) {
      throw Error(ErrorCode::bad_file, "{}: expected one column of class numbers, found {}", name, matrix.columns);
    }
    for (size_t i = 0; i < matrix.values.size(); ++i) {
      truth.push_back(
          label_from_number(matrix.values[i], static_cast<int>(classes.size()), name, fmt::format("row {}", i)));
      if (truth.back() < 0) throw Error(ErrorCode::bad_file, "{}: row {}: the class is missing", name, i);
    }
  } else {
    CsvTable table = parse_csv_table(bytes, name);
    const size_t column = truth_column(table, name);
    const ClassNumbers numbers = number_by_name(classes);
    const bool one_more = static_cast<int64_t>(table.rows.size()) + 1 == inputs;
    if (table.header.size() == 1 && one_more && numbers.contains(table.header[0])) header_to_row(table);
    for (size_t i = 0; i < table.rows.size(); ++i) {
      const auto at = numbers.find(table.rows[i][column]);
      if (at == numbers.end()) {
        throw Error(ErrorCode::bad_file, "{}: row {}: the class '{}' is not one of the {} known classes", name,
                    table.lines[i], table.rows[i][column].substr(0, 60), classes.size());
      }
      truth.push_back(at->second);
    }
  }
  if (static_cast<int64_t>(truth.size()) != inputs) {
    throw Error(ErrorCode::bad_file, "{}: expected {} classes, one per input, found {}", name, inputs, truth.size());
  }
  return truth;
}

void write_predictions(const std::filesystem::path& path, const Combination& result,
                       std::span<const std::string> classes) {
  const auto width = static_cast<size_t>(result.classes);
  if (wants_npy(path)) {
    Matrix matrix{.rows = result.inputs, .columns = int64_t{1} + result.classes};
    for (size_t i = 0; i < static_cast<size_t>(result.inputs); ++i) {
      matrix.values.push_back(static_cast<float>(result.labels[i]));
      const float* row = result.probabilities.data() + i * width;
      matrix.values.insert(matrix.values.end(), row, row + width);
    }
    write_file_atomically(path, format_npy(matrix));
    return;
  }
  std::string text = "label";
  for (const std::string& name : classes) text += "," + quoted(name);
  text += '\n';
  for (size_t i = 0; i < static_cast<size_t>(result.inputs); ++i) {
    text += quoted(classes[static_cast<size_t>(result.labels[i])]);
    for (size_t k = 0; k < width; ++k) {
      fmt::format_to(std::back_inserter(text), ",{:.7g}", result.probabilities[i * width + k]);
    }
    text += '\n';
  }
  write_file_atomically(path, text);
}

void write_answers(const std::filesystem::path& path, const Answers& answers, const DesignFile& design) {
  const bool soft = !answers.probabilities.empty();
  const auto columns =
      static_cast<size_t>(soft ? answer_columns(design.design) : static_cast<int64_t>(design.design.sets.size()));
  Matrix matrix{.rows = answers.inputs, .columns = static_cast<int64_t>(columns), .values = answers.probabilities};
  if (!soft) matrix.values.assign(answers.labels.begin(), answers.labels.end());
  if (wants_npy(path)) {
    write_file_atomically(path, format_npy(matrix));
    return;
  }
  const std::vector<std::string> names = names_of(design);
  std::string text;
  for (size_t j = 0; j < design.design.sets.size(); ++j) {
    if (!soft) text += fmt::format("{}expert {}", j > 0 ? "," : "", j);
    if (!soft) continue;
    for (const int item : design.design.sets[j]) {
      text += (text.empty() ? "" : ",") + quoted(fmt::format("{}: {}", j, names[static_cast<size_t>(item)]));
    }
  }
  text += '\n';
  for (size_t k = 0; k < matrix.values.size(); ++k) {
    if (soft) {
      fmt::format_to(std::back_inserter(text), "{:.7g}", matrix.values[k]);
    } else if (answers.labels[k] >= 0) {
      text += quoted(names[static_cast<size_t>(answers.labels[k])]);
    } else {
      text += "-1";
    }
    text += k % columns + 1 == columns ? '\n' : ',';
  }
  write_file_atomically(path, text);
}

}  // namespace tessera::experts
