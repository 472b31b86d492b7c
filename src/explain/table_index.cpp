#include "tessera/explain/table_index.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <unordered_map>

#include "explain/index_content.h"
#include "tessera/base/error.h"

namespace tessera::explain {
namespace {

constexpr int64_t kTreeRows = 2048;  // smaller cells are scanned

void check_cell(const Feature& feature, double value, int64_t row) {
  if (!std::isfinite(value)) {
    throw Error(ErrorCode::invalid_argument, "row {}, column '{}': expected a finite number, found {}", row,
                feature.name, value);
  }
  if (feature.kind == ColumnKind::categorical &&
      (value != std::floor(value) || value < 0 || value >= static_cast<double>(feature.levels.size()))) {
    throw Error(ErrorCode::invalid_argument, "row {}, column '{}': expected a code from 0 to {}, found {}", row,
                feature.name, static_cast<int64_t>(feature.levels.size()) - 1, value);
  }
}

// Checks every cell; mean, spread and range of continuous features, counts of levels.
void fill_statistics(const TableView& table, std::span<const Feature> features, TableIndex::Content& content) {
  const size_t count = features.size();
  std::vector<double> sum(count, 0), squares(count, 0);
  content.statistics.assign(count,
                            {0, 0, std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()});
  content.level_count.resize(count);
  for (size_t j = 0; j < count; ++j) {
    if (features[j].kind == ColumnKind::categorical) content.level_count[j].assign(features[j].levels.size(), 0);
  }
  for (int64_t i = 0; i < table.rows; ++i) {
    for (size_t j = 0; j < count; ++j) {
      const double value = table.at(i, static_cast<int64_t>(j));
      check_cell(features[j], value, i);
      if (features[j].kind == ColumnKind::categorical) ++content.level_count[j][static_cast<size_t>(value)];
      sum[j] += value;
      content.statistics[j].low = std::min(content.statistics[j].low, value);
      content.statistics[j].high = std::max(content.statistics[j].high, value);
    }
  }
  const auto n = static_cast<double>(table.rows);
  for (const int64_t feature : content.continuous)
    content.statistics[static_cast<size_t>(feature)].mean = sum[static_cast<size_t>(feature)] / n;
  for (int64_t i = 0; i < table.rows; ++i) {
    for (const int64_t feature : content.continuous) {
      const auto j = static_cast<size_t>(feature);
      const double difference = table.at(i, feature) - content.statistics[j].mean;
      squares[j] += difference * difference;
    }
  }
  for (const int64_t feature : content.continuous) {
    ColumnStatistics& column = content.statistics[static_cast<size_t>(feature)];
    column.deviation = column.low < column.high ? std::sqrt(squares[static_cast<size_t>(feature)] / n) : 0;
  }
}

std::pair<double, double> output_range(const ColumnView& output) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (size_t i = 0; i < output.size(); ++i) {
    const double value = output[i];
    if (!std::isfinite(value))
      throw Error(ErrorCode::invalid_argument, "row {}: the output is {}; expected a finite number", i, value);
    low = std::min(low, value);
    high = std::max(high, value);
  }
  return {low, high};
}

struct CodesHash {
  size_t operator()(const std::vector<int32_t>& codes) const {
    uint64_t hash = 0x9E3779B97F4A7C15;
    for (const int32_t code : codes) hash = (hash ^ static_cast<uint64_t>(code)) * 0xD1B54A32D192ED03;
    return hash ^ (hash >> 29);
  }
};

// Groups rows by their categories; within a cell rows stay in table order.
void group_cells(const TableView& table, TableIndex::Content& content, uint32_t* order) {
  if (content.categorical.empty()) {
    std::iota(order, order + table.rows, 0U);
    content.cells.push_back({0, table.rows, 0, {}});
    return;
  }
  std::unordered_map<std::vector<int32_t>, uint32_t, CodesHash> known;
  std::vector<uint32_t> cell_of(static_cast<size_t>(table.rows));
  std::vector<int32_t> codes(content.categorical.size());
  for (int64_t i = 0; i < table.rows; ++i) {
    for (size_t c = 0; c < codes.size(); ++c) codes[c] = static_cast<int32_t>(table.at(i, content.categorical[c]));
    const auto [at, fresh] = known.try_emplace(codes, static_cast<uint32_t>(content.cells.size()));
    if (fresh) content.cells.push_back({0, 0, 0, codes});
    cell_of[static_cast<size_t>(i)] = at->second;
    ++content.cells[at->second].end;
  }
  std::vector<uint32_t> sorted(content.cells.size()), rank(sorted.size());
  std::iota(sorted.begin(), sorted.end(), 0U);
  std::sort(sorted.begin(), sorted.end(),
            [&](uint32_t a, uint32_t b) { return content.cells[a].codes < content.cells[b].codes; });
  std::vector<IndexCell> cells;
  int64_t position = 0;
  for (size_t k = 0; k < sorted.size(); ++k) {
    rank[sorted[k]] = static_cast<uint32_t>(k);
    IndexCell& cell = content.cells[sorted[k]];
    cells.push_back({position, position + cell.end, 0, std::move(cell.codes)});
    position = cells.back().end;
  }
  content.cells = std::move(cells);
  std::vector<int64_t> next;
  for (const IndexCell& cell : content.cells) next.push_back(cell.begin);
  for (int64_t i = 0; i < table.rows; ++i)
    order[next[rank[cell_of[static_cast<size_t>(i)]]]++] = static_cast<uint32_t>(i);
}

void fill_values(const TableView& table, TableIndex::Content& content, const uint32_t* order, float* values) {
  const size_t dimensions = content.continuous.size();
  std::vector<double> mean, inverse;
  for (const int64_t j : content.continuous) {
    mean.push_back(content.statistics[static_cast<size_t>(j)].mean);
    inverse.push_back(index_scale(content.statistics[static_cast<size_t>(j)]));
  }
  for (int64_t i = 0; i < table.rows; ++i) {
    float* row = values + static_cast<size_t>(i) * dimensions;
    for (size_t c = 0; c < dimensions; ++c) {
      row[c] = static_cast<float>((table.at(order[i], content.continuous[c]) - mean[c]) / inverse[c]);
      content.largest = std::max(content.largest, std::abs(row[c]));
    }
  }
}

}  // namespace

TableIndex::TableIndex(std::unique_ptr<Content> content) : content_(std::move(content)) {}
TableIndex::~TableIndex() = default;

int64_t TableIndex::bytes() const {
  return static_cast<int64_t>(content_->nodes.size_bytes() + content_->order.size_bytes() +
                              content_->values.size_bytes());
}

ColumnView TableIndex::output(const TableView& inputs, int64_t column) const {
  ColumnView view(inputs, column);
  const auto known = content_->outputs.find(column);
  if (known != content_->outputs.end()) {
    view.low = known->second.first;
    view.high = known->second.second;
  }
  return view;
}

std::shared_ptr<const TableIndex> TableIndex::build(TableView inputs, std::span<const Feature> features,
                                                    const IndexOptions& options) {
  if (inputs.columns != static_cast<int64_t>(features.size())) {
    throw Error(ErrorCode::invalid_argument, "table: expected {} columns, found {}", features.size(), inputs.columns);
  }
  if (inputs.rows < 1) throw Error(ErrorCode::invalid_argument, "table: expected at least 1 row, found none");
  if (inputs.rows > std::numeric_limits<uint32_t>::max() / 2)
    throw Error(ErrorCode::limit_exceeded, "table: more than 2^31 rows");
  auto content = std::make_unique<Content>();
  content->rows = inputs.rows;
  for (size_t j = 0; j < features.size(); ++j) {
    (features[j].kind == ColumnKind::continuous ? content->continuous : content->categorical)
        .push_back(static_cast<int64_t>(j));
  }
  fill_statistics(inputs, features, *content);
  for (const int64_t column : options.outputs) content->outputs[column] = output_range(ColumnView(inputs, column));
  const auto dimensions = static_cast<int64_t>(content->continuous.size());
  std::unique_ptr<IndexFileWriter> writer;
  TreeBuilder builder{nullptr, nullptr, dimensions, std::max<int64_t>(1, options.leaf_rows)};
  if (options.file.empty()) {
    content->order_memory.resize(static_cast<size_t>(inputs.rows));
    content->value_memory.resize(static_cast<size_t>(inputs.rows * dimensions));
    builder.order = content->order_memory.data();
    builder.values = content->value_memory.data();
  } else {
    writer = std::make_unique<IndexFileWriter>(options.file, inputs.rows, dimensions);
    builder.order = writer->order();
    builder.values = writer->values();
  }
  group_cells(inputs, *content, builder.order);
  fill_values(inputs, *content, builder.order, builder.values);
  for (IndexCell& cell : content->cells) {
    cell.root = static_cast<int64_t>(content->node_memory.size());
    const bool split = dimensions <= options.tree_features && cell.end - cell.begin >= kTreeRows;
    builder.build(cell.begin, cell.end, split, content->node_memory);
  }
  content->nodes = content->node_memory;
  if (writer) {
    writer->finish(*content, describe_table(inputs, features));
    writer.reset();
    return open(options.file, inputs, features);
  }
  content->order = content->order_memory;
  content->values = content->value_memory;
  return std::shared_ptr<const TableIndex>(new TableIndex(std::move(content)));
}

std::shared_ptr<const TableIndex> TableIndex::open(const std::filesystem::path& file, TableView inputs,
                                                   std::span<const Feature> features) {
  std::vector<int64_t> continuous, categorical;
  for (size_t j = 0; j < features.size(); ++j)
    (features[j].kind == ColumnKind::continuous ? continuous : categorical).push_back(static_cast<int64_t>(j));
  auto content = read_index_file(file, static_cast<int64_t>(continuous.size()), describe_table(inputs, features));
  const auto damaged = [&](bool fault) {
    if (fault)
      throw Error(ErrorCode::bad_file, "{}: the index is damaged; delete it to have it built again", file.string());
  };
  damaged(content->rows != inputs.rows || content->statistics.size() != features.size() ||
          content->level_count.size() != features.size());
  for (size_t j = 0; j < features.size(); ++j)
    damaged(features[j].kind == ColumnKind::categorical && content->level_count[j].size() != features[j].levels.size());
  for (const IndexCell& cell : content->cells) damaged(cell.codes.size() != categorical.size());
  content->continuous = std::move(continuous);
  content->categorical = std::move(categorical);
  return std::shared_ptr<const TableIndex>(new TableIndex(std::move(content)));
}

}  // namespace tessera::explain
