#include "scbench/dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "scbench/tasks/common.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"
#include "tessera/base/log.h"

namespace tessera::scbench {
namespace {

using nlohmann::json;

struct DataFile {
  std::string_view task;
  std::string_view file;
  std::string_view head;  // our wording; the rows of the other tasks carry their own instructions
};

constexpr std::array<DataFile, 6> kFiles = {{
    {"kv", "scbench_kv.jsonl", "Find the value of the given key in the JSON object below.\n\n"},
    {"prefix-suffix", "scbench_prefix_suffix.jsonl", ""},
    {"vt", "scbench_vt.jsonl", ""},
    {"mf", "scbench_mf.jsonl", ""},
    {"many-shot", "scbench_many_shot.jsonl", ""},
    {"choice", "scbench_choice_eng.jsonl", "Read the book below. Each question after it has one right option.\n\n"},
}};

std::string readable_files() {
  std::vector<std::string> names;
  for (const DataFile& file : kFiles) names.emplace_back(file.file);
  return join(names, ", ");
}

// One row and where it stands, for messages.
struct Row {
  const json& object;
  std::string place;  // "FILE:LINE"

  [[noreturn]] void fail(const std::string& expected) const {
    throw Error(ErrorCode::bad_file, "{}: expected {}; is this a row of SCBench?", place, expected);
  }
};

std::string text_of(const Row& row, const json& value, const std::string& what) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_integer()) return std::to_string(value.get<int64_t>());
  if (value.is_number_float()) return fmt::format("{}", value.get<double>());
  row.fail(what + " as a string or a number");
}

std::string context_of(const Row& row) {
  const json& object = row.object;
  const char* name = object.contains("context") ? "context" : "input";
  if (!object.contains(name)) row.fail("'context'");
  const json& context = object.at(name);
  if (!context.is_array()) return text_of(row, context, "'context'");
  std::vector<std::string> numbers;
  for (const json& number : context) {
    if (!number.is_number_integer()) row.fail("integers in 'context'");
    numbers.push_back(std::to_string(number.get<int64_t>()));
  }
  return fmt::format("[{}]", fmt::join(numbers, ", "));
}

// Math.Find: the statistic stands between "The" and "is" in the row's text; it is asked for in
// front of the row's own words.
std::string math_question(const std::string& input) {
  const size_t begin = input.find("The ");
  const size_t end = begin == std::string::npos ? begin : input.find(" is", begin);
  if (end == std::string::npos) return input;
  return fmt::format("What is the {}?\n\n{}", input.substr(begin + 4, end - begin - 4), input);
}

// The question with its options as lines A to D; accepted are the right option's text and its letter.
Turn choice_turn(const Row& row, const json& object, const std::string& question) {
  constexpr std::string_view letters = "ABCD";
  const json& options = object.contains("options") ? object.at("options") : json();
  if (!options.is_array() || options.size() != letters.size()) row.fail("four 'options'");
  const json& answers = object.at("answer");
  const std::string answer = text_of(row, answers.is_array() && !answers.empty() ? answers.at(0) : answers, "'answer'");
  Turn turn{fmt::format("\n\n{}\n", question), "", {}};
  for (size_t i = 0; i < letters.size(); ++i) {
    const std::string option = text_of(row, options.at(i), "'options'");
    const std::string letter(1, letters[i]);
    turn.input += fmt::format("{}. {}\n", letter, option);
    if (answer == option || answer == letter) turn.accepted = {option, letter};
  }
  if (turn.accepted.empty()) row.fail("an 'answer' that is one of the 'options'");
  turn.input += "\nThe letter of the right option is";
  turn.answer = fmt::format(" {}", turn.accepted[1]);
  return turn;
}

Turn turn_of(const Row& row, const json& object, std::string_view task) {
  if (!object.is_object() || !object.contains("input") || !object.contains("answer")) {
    row.fail("'input' and 'answer' in every element of 'multi_turns'");
  }
  const std::string input = text_of(row, object.at("input"), "'input'");
  if (task == "choice") return choice_turn(row, object, input);
  const json& answer = object.at("answer");
  Turn turn{fmt::format("\n\n{}", task == "mf" ? math_question(input) : input), "", {}};
  if (answer.is_array()) {
    if (task != "vt") row.fail("a single 'answer'");
    for (const json& name : answer) turn.accepted.push_back(text_of(row, name, "the names of 'answer'"));
  } else {
    turn.accepted = {text_of(row, answer, "'answer'")};
  }
  if (turn.accepted.empty() || turn.accepted.front().empty()) row.fail("an 'answer' that is not empty");
  turn.answer = fmt::format(" {}", fmt::join(turn.accepted, " "));
  return turn;
}

Example example_of(const Row& row, const DataFile& file, int turns) {
  if (!row.object.is_object() || !row.object.contains("multi_turns")) row.fail("an object with 'multi_turns'");
  const json& list = row.object.at("multi_turns");
  if (!list.is_array() || list.empty()) row.fail("a list of turns in 'multi_turns'");
  Example example{std::string(file.task), std::string(file.head), context_of(row), {}};
  for (const json& turn : list) {
    if (static_cast<int>(example.turns.size()) == turns) break;
    example.turns.push_back(turn_of(row, turn, file.task));
  }
  return example;
}

Dataset read_file_of_task(const std::filesystem::path& path, const DataFile& file, const DatasetOptions& options) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw Error(ErrorCode::not_found, "{}: cannot open the file", path.string());
  Dataset dataset{&find_task(file.task), {}, 0};
  int64_t least_excess = std::numeric_limits<int64_t>::max();
  int64_t number = 0;
  for (std::string line;
       static_cast<int64_t>(dataset.examples.size()) < options.examples && std::getline(stream, line);) {
    const std::string place = fmt::format("{}:{}", path.string(), ++number);
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const json object = parse_json(line, place);
    Example example = example_of({object, place}, file, options.turns);
    const int64_t excess = options.excess_tokens ? options.excess_tokens(*dataset.task, example) : 0;
    if (excess > 0) {
      ++dataset.dropped;
      least_excess = std::min(least_excess, excess);
    } else {
      dataset.examples.push_back(std::move(example));
    }
  }
  if (dataset.examples.empty() && dataset.dropped > 0) {
    throw Error(ErrorCode::limit_exceeded, "{}: none of {} rows fits; raise the length by at least {} tokens",
                path.string(), dataset.dropped, least_excess);
  }
  if (dataset.examples.empty())
    throw Error(ErrorCode::bad_file, "{}: expected at least one row, found none", path.string());
  if (dataset.dropped > 0)
    log().warn("{}: {} rows are longer than allowed and were left out", path.string(), dataset.dropped);
  return dataset;
}

const DataFile& file_of(const std::string& task) {
  const auto* file = std::find_if(kFiles.begin(), kFiles.end(), [&](const DataFile& f) { return f.task == task; });
  if (file == kFiles.end()) {
    throw Error(ErrorCode::unsupported, "SCBench data: task '{}' is not read from files; {} are", task,
                readable_files());
  }
  return *file;
}

// The files to read where no task was named.
std::vector<const DataFile*> files_in(const std::filesystem::path& folder) {
  std::vector<const DataFile*> found;
  for (const DataFile& file : kFiles) {
    if (std::filesystem::exists(folder / file.file)) found.push_back(&file);
  }
  std::vector<std::string> others;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool read =
        std::any_of(kFiles.begin(), kFiles.end(), [&](const DataFile& file) { return file.file == name; });
    if (name.ends_with(".jsonl") && !read) others.push_back(name);
  }
  std::sort(others.begin(), others.end());
  if (found.empty()) {
    throw Error(others.empty() ? ErrorCode::not_found : ErrorCode::unsupported, "{}: expected one of {}, found {}",
                folder.string(), readable_files(), others.empty() ? "none" : join(others, ", "));
  }
  if (!others.empty()) log().warn("{}: not read: {}", folder.string(), join(others, ", "));
  return found;
}

}  // namespace

std::vector<Dataset> read_datasets(const std::filesystem::path& folder, const DatasetOptions& options) {
  if (!std::filesystem::is_directory(folder)) {
    throw Error(ErrorCode::not_found, "{}: expected a directory with {}", folder.string(), readable_files());
  }
  std::vector<const DataFile*> files;
  for (const std::string& task : options.tasks) files.push_back(&file_of(task));
  if (options.tasks.empty()) files = files_in(folder);
  std::vector<Dataset> datasets;
  for (const DataFile* file : files) datasets.push_back(read_file_of_task(folder / file->file, *file, options));
  return datasets;
}

}  // namespace tessera::scbench
