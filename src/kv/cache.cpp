#include "tessera/kv/cache.h"

#include <algorithm>
#include <limits>

#include "kv/head_table.h"
#include "tessera/base/error.h"

namespace tessera::kv {
namespace {

using attention::kTileRows;

constexpr int64_t kMaxPosition = std::numeric_limits<int32_t>::max();

void check_layout(const CacheLayout& layout) {
  if (layout.layers < 1 || layout.kv_heads < 1) {
    throw Error(ErrorCode::invalid_argument, "KV cache: expected at least 1 layer and 1 KV head, found {} and {}",
                layout.layers, layout.kv_heads);
  }
  if (layout.head_dim < 32 || layout.head_dim % 32 != 0) {
    throw Error(ErrorCode::invalid_argument, "KV cache: expected a head_dim that is a multiple of 32, found {}",
                layout.head_dim);
  }
  if (!attention::is_appendable(layout.format)) {
    throw Error(ErrorCode::invalid_argument,
                "KV cache: rows are appended as f32, bf16 or f16, found {}; quantise by a policy such as kivi",
                attention::to_string(layout.format));
  }
}

void check_rows(const CacheLayout& layout, const Tensor& keys, const Tensor& values) {
  const Shape expected({keys.shape().rank() == 3 ? keys.shape()[0] : 0, layout.kv_heads, layout.head_dim});
  if (keys.dtype() != DType::f32 || values.dtype() != DType::f32 || keys.shape() != expected ||
      values.shape() != expected) {
    throw Error(ErrorCode::invalid_argument,
                "KV cache: expected f32 keys and values of one shape [n, {}, {}], found {} {} and {} {}",
                layout.kv_heads, layout.head_dim, to_string(keys.dtype()), keys.shape().str(),
                to_string(values.dtype()), values.shape().str());
  }
}

void check_kept(std::span<const int32_t> rows, int64_t available) {
  int64_t next = 0;  // smallest row that may come now
  for (const int32_t row : rows) {
    if (row < next || row >= available) {
      throw Error(ErrorCode::invalid_argument,
                  "KV cache: rows to keep must be ascending, distinct and below {}, found {}", available, row);
    }
    next = int64_t{row} + 1;
  }
}

// The table of `shared`, which becomes its own when it was not.
HeadTable& own(Counted<HeadTable>& shared) {
  if (!shared.unique()) shared = Counted<HeadTable>::make(*shared);
  return shared.edit();
}

}  // namespace

KeyValueCache::KeyValueCache(const CacheLayout& layout, std::shared_ptr<PagePool> pool)
    : layout_(layout), pool_(std::move(pool)) {
  check_layout(layout_);
  if (!pool_) throw Error(ErrorCode::invalid_argument, "KV cache: expected a page pool, found none");
  const size_t count = static_cast<size_t>(layout_.layers) * static_cast<size_t>(layout_.kv_heads);
  heads_.reserve(count);
  for (size_t i = 0; i < count; ++i) heads_.push_back(Counted<HeadTable>::make());
}

const Counted<HeadTable>& KeyValueCache::head(int layer, int head) const {
  if (layer < 0 || layer >= layout_.layers || head < 0 || head >= layout_.kv_heads) {
    throw Error(ErrorCode::invalid_argument,
                "KV cache: expected a layer below {} and a KV head below {}, found {} and {}", layout_.layers,
                layout_.kv_heads, layer, head);
  }
  return heads_[static_cast<size_t>(layer) * static_cast<size_t>(layout_.kv_heads) + static_cast<size_t>(head)];
}

Counted<HeadTable>& KeyValueCache::head(int layer, int head) {
  return const_cast<Counted<HeadTable>&>(std::as_const(*this).head(layer, head));
}

void KeyValueCache::append(int layer, const Tensor& keys, const Tensor& values, int64_t first_position) {
  check_rows(layout_, keys, values);
  const int64_t count = keys.shape()[0];
  if (first_position < 0 || first_position > kMaxPosition - count) {
    throw Error(ErrorCode::invalid_argument, "KV cache: expected positions in [0, {}], found {} rows from {}",
                kMaxPosition, count, first_position);
  }
  const PageSource pages{*pool_, layout_.format, layout_.head_dim};
  int64_t needed = 0;
  for (int h = 0; h < layout_.kv_heads; ++h) {
    const Counted<HeadTable>& table = head(layer, h);
    if (table->rows > 0 && table->position(table->rows - 1) >= first_position) {
      throw Error(ErrorCode::invalid_argument, "KV cache: expected rows after position {}, found rows from {}",
                  table->position(table->rows - 1), first_position);
    }
  }
  if (count == 0) return;

  // A shared table becomes our own first: only then do its pages tell whether anybody else holds them. All pages are
  // taken before the first row is written, so that a full pool leaves every head as it was.
  for (int h = 0; h < layout_.kv_heads; ++h) needed += pages_to_append(own(head(layer, h)), pages, count);
  std::vector<PageRef> fresh;
  fresh.reserve(static_cast<size_t>(needed));
  while (std::ssize(fresh) < needed) fresh.push_back(pool_->allocate(layout_.format, layout_.head_dim));

  for (int h = 0; h < layout_.kv_heads; ++h) {
    const NewRows rows{.source = {.keys = keys.data<float>() + h * layout_.head_dim,
                                  .values = values.data<float>() + h * layout_.head_dim,
                                  .row_stride = layout_.kv_heads * layout_.head_dim},
                       .count = count,
                       .first_position = first_position};
    append_rows(head(layer, h).edit(), pages, rows, fresh);
  }
  next_position_ = std::max(next_position_, first_position + count);
}

LayerView KeyValueCache::view(int layer) const {
  LayerView view;
  view.heads.reserve(static_cast<size_t>(layout_.kv_heads));
  view.tables.reserve(static_cast<size_t>(layout_.kv_heads));
  for (int h = 0; h < layout_.kv_heads; ++h) {
    const Counted<HeadTable>& table = head(layer, h);
    view.heads.push_back({.tiles = table->tiles, .positions = table->positions, .rows = table->rows});
    view.tables.push_back(table);
  }
  return view;
}

KeyValueCache KeyValueCache::fork() const { return KeyValueCache(*this); }

void KeyValueCache::truncate(int64_t position) {
  position = std::max<int64_t>(position, 0);
  for (Counted<HeadTable>& table : heads_) {
    const std::vector<int32_t>& positions = table->positions;
    const int64_t kept = positions.empty()
                             ? std::min(table->rows, position)
                             : std::lower_bound(positions.begin(), positions.end(), position) - positions.begin();
    if (kept < table->rows) table = leading_rows(*table, kept);
  }
  next_position_ = std::min(next_position_, position);
}

void KeyValueCache::keep_rows(int layer, int head_index, std::span<const int32_t> rows) {
  Counted<HeadTable>& table = head(layer, head_index);
  check_kept(rows, table->rows);
  if (std::ssize(rows) == table->rows) return;
  table = selected_rows(*table, {*pool_, layout_.format, layout_.head_dim}, rows);
}

void KeyValueCache::encode_pages(int layer, int head_index, int64_t first, int64_t last, attention::TileFormat format) {
  Counted<HeadTable>& shared = head(layer, head_index);
  if (attention::is_appendable(format)) {
    throw Error(ErrorCode::invalid_argument, "KV cache: expected a quantised page format, found {}",
                attention::to_string(format));
  }
  if (first < 0 || last < first || last > shared->rows / kTileRows) {
    throw Error(ErrorCode::invalid_argument, "KV cache: expected full pages within [0, {}), found [{}, {})",
                shared->rows / kTileRows, first, last);
  }
  std::vector<PageRef> encoded(static_cast<size_t>(last - first));
  for (int64_t page = first; page < last; ++page) {
    const attention::TileFormat found = shared->tiles[static_cast<size_t>(page)].format;
    if (found == format) continue;
    if (!attention::is_appendable(found)) {
      throw Error(ErrorCode::invalid_argument, "KV cache: page {} holds {} and would lose twice as {}", page,
                  attention::to_string(found), attention::to_string(format));
    }
    encoded[static_cast<size_t>(page - first)] =
        encoded_page(*shared, page, {*pool_, layout_.format, layout_.head_dim}, format);
  }
  HeadTable& table = own(shared);
  for (int64_t page = first; page < last; ++page) {
    PageRef& fresh = encoded[static_cast<size_t>(page - first)];
    if (!fresh) continue;
    table.tiles[static_cast<size_t>(page)] = {.data = fresh.data(), .rows = kTileRows, .format = format};
    table.pages[static_cast<size_t>(page)] = std::move(fresh);
  }
}

int64_t KeyValueCache::rows(int layer, int head_index) const { return head(layer, head_index)->rows; }

std::span<const PageRef> KeyValueCache::pages(int layer, int head_index) const {
  return head(layer, head_index)->pages;
}

int64_t KeyValueCache::bytes() const {
  int64_t total = 0;
  for (const Counted<HeadTable>& table : heads_) {
    for (const PageRef& page : table->pages) total += page.bytes();
  }
  return total;
}

int64_t KeyValueCache::unshared_bytes() const {
  int64_t total = 0;
  for (const Counted<HeadTable>& table : heads_) {
    if (!table.unique()) continue;
    for (const PageRef& page : table->pages) total += page.unique() ? page.bytes() : 0;
  }
  return total;
}

}  // namespace tessera::kv
