#include "tessera/experts/dataset.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "experts/data/table.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"

namespace tessera::experts {
namespace {

std::string labels_beside(const std::filesystem::path& images) {
  std::string name = images.filename().string();
  const size_t at = name.find("images-idx3");
  if (at == std::string::npos) {
    throw Error(ErrorCode::bad_file,
                "{}: expected a name with 'images-idx3', so that the labels are found in 'labels-idx1' beside it",
                images.string());
  }
  name.replace(at, 11, "labels-idx1");
  return (images.parent_path() / name).string();
}

Dataset read_cifar_files(const std::string& list) {
  std::string records;
  size_t begin = 0;
  while (begin <= list.size()) {
    const size_t end = std::min(list.find(',', begin), list.size());
    records += read_file(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return parse_cifar(records, list);
}

bool looks_like_libsvm(std::string_view text) {
  const std::string_view line = text.substr(0, text.find('\n'));
  return line.find(':') != std::string_view::npos && line.find(',') == std::string_view::npos;
}

}  // namespace

Dataset read_dataset(const std::filesystem::path& path, const DatasetOptions& options) {
  const std::string name = path.string();
  if (path.extension() == ".bin") return read_cifar_files(name);
  const std::string content = inflate(read_file(path), name);
  const bool is_idx = content.size() >= 4 && content[0] == 0 && content[1] == 0;
  if (is_idx || name.find("idx3") != std::string::npos) {
    const std::string labels = labels_beside(path);
    return parse_idx(content, inflate(read_file(labels), labels), name);
  }
  if (content.starts_with("\x93NUMPY")) return parse_npy_dataset(content, name, options);
  if (looks_like_libsvm(content)) return parse_libsvm(content, name, options);
  return parse_csv_dataset(content, name, options);
}

Dataset read_unlabelled(const std::filesystem::path& path) {
  const std::string name = path.string();
  const std::string content = inflate(read_file(path), name);
  if (content.size() >= 16 && content[0] == 0 && content[1] == 0) {
    const std::string_view count(content.data() + 4, 4);  // as many labels as images, all 0, thrown away below
    uint32_t images = 0;
    for (const char c : count) images = images << 8 | static_cast<unsigned char>(c);
    if (images > content.size()) images = 0;
    std::string labels{0, 0, 8, 1};
    labels += std::string(count) + std::string(images, '\0');
    Dataset data = parse_idx(content, labels, name);
    data.labels.clear(), data.classes.clear();
    return data;
  }
  Matrix matrix = parse_matrix(content, name);
  if (matrix.rows < 1) throw Error(ErrorCode::bad_file, "{}: holds no row", name);
  return {.rows = matrix.rows, .features = matrix.columns, .values = std::move(matrix.values)};
}

Dataset restrict_to(const Dataset& data, std::span<const int> classes) {
  Dataset result{.features = data.features, .channels = data.channels, .height = data.height, .width = data.width};
  for (const int item : classes) result.classes.push_back(data.classes.at(static_cast<size_t>(item)));
  for (int64_t i = 0; i < data.rows; ++i) {
    const auto at = std::lower_bound(classes.begin(), classes.end(), data.labels[static_cast<size_t>(i)]);
    if (at == classes.end() || *at != data.labels[static_cast<size_t>(i)]) continue;
    const float* row = data.values.data() + i * data.features;
    result.values.insert(result.values.end(), row, row + data.features);
    result.labels.push_back(static_cast<int32_t>(at - classes.begin()));
    ++result.rows;
  }
  return result;
}

Dataset slice_rows(const Dataset& data, int64_t begin, int64_t end) {
  Dataset result = data;
  result.rows = end - begin;
  result.values.assign(data.values.begin() + begin * data.features, data.values.begin() + end * data.features);
  result.labels.assign(data.labels.begin() + begin, data.labels.begin() + end);
  return result;
}

}  // namespace tessera::experts
