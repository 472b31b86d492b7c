#include "kv/head_table.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace tessera::kv {
namespace {

using attention::KeyValueTile;
using attention::kTileRows;

int64_t pages_of(int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }

// Up to 64 rows in f32.
struct RowBuffer {
  explicit RowBuffer(int64_t channels)
      : head_dim(channels),
        keys(static_cast<size_t>(kTileRows * channels)),
        values(static_cast<size_t>(kTileRows * channels)) {}

  void load(const KeyValueTile& tile, int row) {
    attention::read_row(tile, head_dim, row, keys.data() + count * head_dim, values.data() + count * head_dim);
    ++count;
  }
  attention::RowSource source() const { return {keys.data(), values.data(), head_dim}; }

  int64_t head_dim;
  int count = 0;
  std::vector<float> keys;    // [64][head_dim]
  std::vector<float> values;  // [64][head_dim]
};

void push_page(HeadTable& table, PageRef page, int rows) {
  table.tiles.push_back({.data = page.data(), .rows = rows, .format = page.format()});
  table.pages.push_back(std::move(page));
}

// Whether the last page has room and may be written in place.
bool tail_is_writable(const HeadTable& table, const PageSource& pages) {
  return table.rows % kTileRows != 0 && table.pages.back().unique() && table.pages.back().format() == pages.format;
}

// Replaces the last page by a copy in `fresh` that may be appended to.
void renew_tail(HeadTable& table, const PageSource& pages, PageRef fresh) {
  KeyValueTile& tile = table.tiles.back();
  std::byte* bytes = fresh.claim_rows(0, tile.rows);
  if (tile.format == fresh.format()) {
    std::memcpy(bytes, tile.data, static_cast<size_t>(fresh.bytes()));
  } else {
    RowBuffer buffer(pages.head_dim);
    for (int row = 0; row < tile.rows; ++row) buffer.load(tile, row);
    attention::write_rows(bytes, fresh.format(), pages.head_dim, 0, tile.rows, buffer.source());
  }
  tile.data = fresh.data();
  tile.format = fresh.format();
  table.pages.back() = std::move(fresh);
}

// A table whose rows are still their positions lists none.
void append_positions(HeadTable& table, int64_t count, int64_t first_position) {
  const auto rows = static_cast<size_t>(table.rows);
  if (table.positions.empty() && first_position == table.rows) return;
  if (table.positions.empty()) {
    table.positions.resize(rows);
    std::iota(table.positions.begin(), table.positions.end(), 0);
  }
  table.positions.resize(rows + static_cast<size_t>(count));
  std::iota(table.positions.begin() + static_cast<std::ptrdiff_t>(rows), table.positions.end(),
            static_cast<int32_t>(first_position));
}

}  // namespace

Counted<HeadTable> leading_rows(const HeadTable& table, int64_t rows) {
  Counted<HeadTable> made = Counted<HeadTable>::make();
  HeadTable& leading = made.edit();
  const int64_t pages = pages_of(rows);
  leading.pages.assign(table.pages.begin(), table.pages.begin() + pages);
  leading.tiles.assign(table.tiles.begin(), table.tiles.begin() + pages);
  if (pages > 0) leading.tiles.back().rows = static_cast<int32_t>(rows - (pages - 1) * kTileRows);
  if (!table.positions.empty()) leading.positions.assign(table.positions.begin(), table.positions.begin() + rows);
  leading.rows = rows;
  return made;
}

int64_t pages_to_append(const HeadTable& table, const PageSource& pages, int64_t count) {
  const bool copy_tail = table.rows % kTileRows != 0 && !tail_is_writable(table, pages);
  return pages_of(table.rows + count) - pages_of(table.rows) + (copy_tail ? 1 : 0);
}

void append_rows(HeadTable& table, const PageSource& pages, const NewRows& rows, std::vector<PageRef>& fresh) {
  const auto take = [&] {
    PageRef page = std::move(fresh.back());
    fresh.pop_back();
    return page;
  };
  if (table.rows % kTileRows != 0 && !tail_is_writable(table, pages)) renew_tail(table, pages, take());
  append_positions(table, rows.count, rows.first_position);
  for (int64_t done = 0; done < rows.count;) {
    const int at = static_cast<int>(table.rows % kTileRows);
    if (at == 0) push_page(table, take(), 0);
    const int count = static_cast<int>(std::min<int64_t>(kTileRows - at, rows.count - done));
    const attention::RowSource part{.keys = rows.source.keys + done * rows.source.row_stride,
                                    .values = rows.source.values + done * rows.source.row_stride,
                                    .row_stride = rows.source.row_stride};
    attention::write_rows(table.pages.back().claim_rows(at, count), pages.format, pages.head_dim, at, count, part);
    table.tiles.back().rows = at + count;
    table.rows += count;
    done += count;
  }
}

Counted<HeadTable> selected_rows(const HeadTable& table, const PageSource& pages, std::span<const int32_t> rows) {
  const auto count = static_cast<int64_t>(rows.size());
  int64_t same = 0;  // leading rows that stay where they are, whole pages only
  while (same < count && rows[static_cast<size_t>(same)] == same) ++same;
  if (same < count) same -= same % kTileRows;

  Counted<HeadTable> made = leading_rows(table, same);
  HeadTable& kept = made.edit();
  RowBuffer buffer(pages.head_dim);
  for (int64_t done = same; done < count; done += buffer.count) {
    buffer.count = 0;
    for (int64_t i = done; i < std::min(done + kTileRows, count); ++i) {
      const int32_t row = rows[static_cast<size_t>(i)];
      buffer.load(table.tiles[static_cast<size_t>(row / kTileRows)], row % kTileRows);
    }
    PageRef page = pages.pool.allocate(pages.format, pages.head_dim);
    attention::write_rows(page.claim_rows(0, buffer.count), pages.format, pages.head_dim, 0, buffer.count,
                          buffer.source());
    push_page(kept, std::move(page), buffer.count);
  }
  if (same == count) return made;
  kept.positions.resize(rows.size());
  std::transform(rows.begin(), rows.end(), kept.positions.begin(),
                 [&](int32_t row) { return static_cast<int32_t>(table.position(row)); });
  kept.rows = count;
  return made;
}

PageRef encoded_page(const HeadTable& table, int64_t index, const PageSource& pages, attention::TileFormat format) {
  const KeyValueTile& tile = table.tiles[static_cast<size_t>(index)];
  RowBuffer buffer(pages.head_dim);
  for (int row = 0; row < kTileRows; ++row) buffer.load(tile, row);
  PageRef page = pages.pool.allocate(format, pages.head_dim);
  attention::encode_tile(page.claim_rows(0, kTileRows), format, pages.head_dim, buffer.source());
  return page;
}

}  // namespace tessera::kv
