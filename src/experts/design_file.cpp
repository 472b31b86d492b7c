#include "tessera/experts/design_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "tessera/base/error.h"
#include "tessera/base/file.h"

namespace tessera::experts {
namespace {

constexpr const char* kFormat = "tessera-design";
constexpr int kVersion = 1;
constexpr size_t kMaxQuoted = 60;

// A value for an error message: short whatever the file holds.
std::string quote(const nlohmann::json& value) {
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > kMaxQuoted) text = text.substr(0, kMaxQuoted) + "...";
  return text;
}

const nlohmann::json& field(const nlohmann::json& document, const char* key, std::string_view name) {
  const auto found = document.find(key);
  if (found == document.end()) throw Error(ErrorCode::bad_file, "{}: a design needs the field \"{}\"", name, key);
  return *found;
}

int whole_number(const nlohmann::json& value, int64_t low, int64_t high, const std::string& where) {
  const bool in_range = value.is_number_unsigned()  ? value.get<uint64_t>() <= static_cast<uint64_t>(high)
                        : value.is_number_integer() ? value.get<int64_t>() >= low && value.get<int64_t>() <= high
                                                    : false;
  if (!in_range || value.get<int64_t>() < low) {
    throw Error(ErrorCode::bad_file, "{}: expected a whole number in {}..{}, found {}", where, low, high, quote(value));
  }
  return value.get<int>();
}

std::vector<int> read_set(const nlohmann::json& value, int classes, const std::string& where) {
  if (!value.is_array() || value.empty()) {
    throw Error(ErrorCode::bad_file, "{}: expected a list of one or more classes, found {}", where, quote(value));
  }
  if (value.size() > static_cast<size_t>(classes)) {
    throw Error(ErrorCode::bad_file, "{}: holds {} classes, but the design has only {}", where, value.size(), classes);
  }
  std::vector<int> set;
  set.reserve(value.size());
  for (const nlohmann::json& item : value) set.push_back(whole_number(item, 0, classes - 1, where));
  std::sort(set.begin(), set.end());
  const auto twice = std::adjacent_find(set.begin(), set.end());
  if (twice != set.end()) throw Error(ErrorCode::bad_file, "{}: class {} stands in it twice", where, *twice);
  return set;
}

std::vector<std::string> read_names(const nlohmann::json& value, int classes, std::string_view name) {
  if (!value.is_array() || value.size() != static_cast<size_t>(classes)) {
    throw Error(ErrorCode::bad_file, "{}: class_names: expected a list of {} texts, found {}", name, classes,
                value.is_array() ? fmt::format("{} entries", value.size()) : quote(value));
  }
  std::vector<std::string> names;
  std::set<std::string> seen;
  for (const nlohmann::json& item : value) {
    if (!item.is_string()) {
      throw Error(ErrorCode::bad_file, "{}: class_names: expected texts, found {}", name, quote(item));
    }
    names.push_back(item.get<std::string>());
    if (!seen.insert(names.back()).second) {
      throw Error(ErrorCode::bad_file, "{}: class_names: {} stands there twice", name, quote(item));
    }
  }
  return names;
}

}  // namespace

DesignFile parse_design(std::string_view text, std::string_view name) {
  const nlohmann::json document = parse_json(text, name);
  if (!document.is_object()) {
    throw Error(ErrorCode::bad_file, "{}: expected a JSON object, found {}", name, quote(document));
  }
  const nlohmann::json& format = field(document, "format", name);
  if (format != kFormat) {
    throw Error(ErrorCode::bad_file, "{}: expected the format \"{}\", found {}", name, kFormat, quote(format));
  }
  const nlohmann::json& version = field(document, "version", name);
  if (version != kVersion) {
    throw Error(ErrorCode::bad_file, "{}: expected version {}, found {}; a newer tessera may read it", name, kVersion,
                quote(version));
  }
  DesignFile file;
  file.design.classes =
      whole_number(field(document, "classes", name), 1, kMaxClasses, fmt::format("{}: classes", name));
  const nlohmann::json& sets = field(document, "sets", name);
  if (!sets.is_array()) throw Error(ErrorCode::bad_file, "{}: sets: expected a list, found {}", name, quote(sets));
  for (const nlohmann::json& set : sets) {
    file.design.sets.push_back(
        read_set(set, file.design.classes, fmt::format("{}: set {}", name, file.design.sets.size())));
  }
  if (const auto names = document.find("class_names"); names != document.end() && !names->is_null()) {
    file.class_names = read_names(*names, file.design.classes, name);
  }
  if (const auto certificate = document.find("certificate"); certificate != document.end() && !certificate->is_null()) {
    if (!certificate->is_object()) {
      throw Error(ErrorCode::bad_file, "{}: certificate: expected an object, found {}", name, quote(*certificate));
    }
    file.certificate = *certificate;
  }
  return file;
}

DesignFile read_design(const std::filesystem::path& path) {
  // A fit's folder is the likely mistake: its design is one of its files.
  if (std::filesystem::is_directory(path)) {
    const std::filesystem::path inside = path / "design.json";
    throw Error(ErrorCode::io, "{}: expected a design file, found a folder; {}", path.string(),
                std::filesystem::exists(inside) ? "give the design in it: " + inside.string()
                                                : std::string("no design.json is in it"));
  }
  return parse_design(read_file(path), path.string());
}

std::string format_design(const DesignFile& file) {
  check_design(file.design);
  const auto line = [](const nlohmann::json& value) {
    return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  std::string text = fmt::format("{{\"format\": \"{}\", \"version\": {},\n \"classes\": {},\n", kFormat, kVersion,
                                 file.design.classes);
  if (!file.class_names.empty()) text += " \"class_names\": " + line(file.class_names) + ",\n";
  if (!file.certificate.empty()) text += " \"certificate\": " + line(file.certificate) + ",\n";
  text += " \"sets\": [";
  for (size_t j = 0; j < file.design.sets.size(); ++j) {
    text += (j == 0 ? "\n  " : ",\n  ") + line(file.design.sets[j]);
  }
  return text + "]}\n";
}

void write_design(const std::filesystem::path& path, const DesignFile& file) {
  write_file_atomically(path, format_design(file));
}

}  // namespace tessera::experts
