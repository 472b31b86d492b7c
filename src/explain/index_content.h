// What a table's index holds; spans point into memory of its own or into a mapped file.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tessera/base/mapped_file.h"
#include "tessera/explain/table_index.h"

namespace tessera::explain {

constexpr int32_t kLeaf = -1;
constexpr int kDeepestNode = 120;  // a search's stack; deeper splits are not made

// Nodes of a cell stand in preorder: a split's left child follows it.
struct IndexNode {
  int32_t dimension = kLeaf;  // index into the continuous features
  float split = 0;            // left: below or equal, right: above or equal
  uint32_t first = 0;         // split: index of the right child; leaf: position of its first row
  uint32_t count = 0;         // leaf: rows
};

struct IndexCell {
  int64_t begin = 0, end = 0;  // positions
  int64_t root = 0;            // node
  std::vector<int32_t> codes;  // per categorical feature
};

struct ColumnStatistics {
  double mean = 0;
  double deviation = 0;  // population
  double low = 0;
  double high = 0;
};

struct TableIndex::Content {
  int64_t rows = 0;
  std::vector<int64_t> continuous, categorical;          // feature numbers
  std::vector<ColumnStatistics> statistics;              // per feature
  std::vector<std::vector<int64_t>> level_count;         // per feature; empty for continuous ones
  std::map<int64_t, std::pair<double, double>> outputs;  // stored column: its smallest and largest value
  float largest = 0;                                     // |standardised value|
  std::vector<IndexCell> cells;                          // ascending by codes
  std::span<const IndexNode> nodes;
  std::span<const uint32_t> order;  // [rows] table row at each position
  std::span<const float> values;    // [rows, continuous]: leaf by leaf, in a leaf column by column

  // Owners of the spans.
  std::vector<IndexNode> node_memory;
  std::vector<uint32_t> order_memory;
  std::vector<float> value_memory;
  std::unique_ptr<MappedFile> file;
};

// Scale and shift of standardised values: constant columns are only centred.
inline double index_scale(const ColumnStatistics& column) { return column.deviation > 0 ? column.deviation : 1; }

// Arranges rows [begin, end) of one cell into leaves and appends its nodes. values: [rows, dimensions] row-major on
// entry, leaf by leaf and column by column on return; order: their table rows, permuted alike.
struct TreeBuilder {
  float* values = nullptr;
  uint32_t* order = nullptr;
  int64_t dimensions = 0;
  int64_t leaf_rows = 64;

  void build(int64_t begin, int64_t end, bool split, std::vector<IndexNode>& nodes) const;
};

// The file format (index_file.cpp). The writer maps the file while it is built, so that rows are arranged in place.
class IndexFileWriter {
 public:
  IndexFileWriter(std::filesystem::path path, int64_t rows, int64_t dimensions);
  ~IndexFileWriter();
  float* values() const;
  uint32_t* order() const;
  void finish(const TableIndex::Content& content, const std::string& description);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::unique_ptr<TableIndex::Content> read_index_file(const std::filesystem::path& path, int64_t dimensions,
                                                     const std::string& description);

// What a file must have been built from: rows, features, levels and sampled values, as text.
std::string describe_table(const TableView& inputs, std::span<const Feature> features);

}  // namespace tessera::explain
