// The index of a table's rows: what a search for the nearest rows reads, in memory or in a file.
//
//   auto index = TableIndex::build(inputs, features);                            // in memory
//   TableIndex::build(inputs, features, {.file = "records.index", .outputs = {8}});  // once; out of core
//   auto index = TableIndex::open("records.index", inputs, features);            // maps it: no reading, no rebuilding
//   Explainer explainer(inputs, outputs, features, options, index);
//
// Rows are grouped by cell (rows that share all categories). Within a cell they stand in the order of a k-d tree's
// leaves (Friedman, Bentley, Finkel 1977; splits at medians of a sample along the widest feature), each leaf column by
// column as standardised float32, so that a leaf is one short SIMD loop over contiguous memory. Size: 4 (features + 1)
// bytes per row and 16 bytes per node. Building costs O(rows log rows) and streams over the table; with a file, memory
// is the page cache's. A file is written under a temporary name and renamed; it belongs to exactly one table (row
// count, features and sampled values are compared) and is bound to this machine's byte order.
//
// Errors: Error(invalid_argument) naming row and column for a value that is not finite or no code; Error(bad_file) for
// a damaged file; Error(invalid_argument) for the index of another table.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

#include "tessera/explain/table.h"

namespace tessera::explain {

struct IndexOptions {
  std::filesystem::path file = {};  // where to keep the index; empty: in memory
  int64_t tree_features = 10;       // with more continuous features than this, leaves are whole cells: a scan is faster
  std::vector<int64_t> outputs = {};  // stored columns of the table whose range is checked and kept with the index
  int64_t leaf_rows = 64;             // at most, where rows differ; measured: 32 to 128 are alike
};

class TableIndex {
 public:
  static std::shared_ptr<const TableIndex> build(TableView inputs, std::span<const Feature> features,
                                                 const IndexOptions& options = {});
  static std::shared_ptr<const TableIndex> open(const std::filesystem::path& file, TableView inputs,
                                                std::span<const Feature> features);
  ~TableIndex();
  TableIndex(const TableIndex&) = delete;
  TableIndex& operator=(const TableIndex&) = delete;

  int64_t bytes() const;

  // Stored column `column` of the table with the range found when the index was built, so that it is not read again
  // (IndexOptions::outputs); otherwise without one.
  ColumnView output(const TableView& inputs, int64_t column) const;

  struct Content;
  const Content& content() const { return *content_; }

 private:
  explicit TableIndex(std::unique_ptr<Content> content);
  std::unique_ptr<Content> content_;
};

}  // namespace tessera::explain
