#include "attention/minference_index.h"

#include <algorithm>

#include "tessera/base/error.h"

namespace tessera::attention {
namespace {

constexpr int64_t kBlock = 64;

// The merge of one row block that ends before query row `end`.
MinferenceRowBlock merge_lines(int64_t end, std::span<const int32_t> columns, std::span<const int32_t> distances) {
  MinferenceRowBlock row;
  const auto first = std::find_if(distances.begin(), distances.end(), [&](int32_t distance) { return distance < end; });
  // A distance hits the 64 keys that end before this one; never before the first block of keys.
  const auto interval_end = [&](int32_t distance) { return std::max(end - distance, kBlock); };
  int64_t range_end = interval_end(*first);
  int64_t range_begin = range_end - kBlock;
  auto column = columns.begin();
  const auto flush = [&] {
    // Columns before the range are listed; those inside are covered.
    for (; column != columns.end() && *column < range_end; ++column) {
      if (*column < range_begin) row.columns.push_back(*column);
    }
    for (int64_t block = range_begin; block < range_end; block += kBlock) row.blocks.push_back(block);
  };
  for (auto distance = first + 1; distance != distances.end(); ++distance) {
    const int64_t next = interval_end(*distance);
    if (next > range_end + kBlock) {
      flush();
      range_begin = next - kBlock;
      range_end = next;
    } else if (next > range_end) {
      range_end += kBlock;
    }
  }
  flush();
  return row;
}

}  // namespace

std::vector<MinferenceRowBlock> minference_index(int64_t rows, std::span<const int32_t> columns,
                                                 std::span<const int32_t> distances) {
  if (distances.empty() || distances.back() != 0 || !std::is_sorted(distances.rbegin(), distances.rend()) ||
      !std::is_sorted(columns.begin(), columns.end())) {
    throw Error(ErrorCode::invalid_argument,
                "minference index: expected ascending columns and descending distances that end with 0");
  }
  std::vector<MinferenceRowBlock> index;
  for (int64_t begin = 0; begin < rows; begin += kBlock)
    index.push_back(merge_lines(begin + kBlock, columns, distances));
  return index;
}

}  // namespace tessera::attention
