// What the cache does to the table of one head. Each function edits a table that its caller holds alone, or makes a new
// one.
#pragma once

#include <span>

#include "tessera/kv/cache.h"

namespace tessera::kv {

// How rows are stored, and where pages come from.
struct PageSource {
  PagePool& pool;
  attention::TileFormat format;  // of pages that rows are appended to
  int64_t head_dim;
};

// Rows of one head in caller's memory: row r at keys + r * row_stride, position first_position + r.
struct NewRows {
  attention::RowSource source;
  int64_t count = 0;
  int64_t first_position = 0;
};

// The first `rows` rows of `table` in a table of their own that shares its pages.
Counted<HeadTable> leading_rows(const HeadTable& table, int64_t rows);

// Pages that append_rows needs beyond those it may write to, the copy of a shared or quantised last page included.
int64_t pages_to_append(const HeadTable& table, const PageSource& pages, int64_t count);

// Appends rows, taking the pages that pages_to_append named from the end of `fresh`.
void append_rows(HeadTable& table, const PageSource& pages, const NewRows& rows, std::vector<PageRef>& fresh);

// The given rows (ascending, distinct, in range) of `table`; see KeyValueCache::keep_rows.
Counted<HeadTable> selected_rows(const HeadTable& table, const PageSource& pages, std::span<const int32_t> rows);

// Page `index` of `table`, which must be full and appendable, in a quantised format.
PageRef encoded_page(const HeadTable& table, int64_t index, const PageSource& pages, attention::TileFormat format);

}  // namespace tessera::kv
