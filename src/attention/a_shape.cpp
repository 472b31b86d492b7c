// A-shape and Tri-shape: sinks and a window, and for Tri-shape dense last rows (MInference, SCBench).
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "attention/selector_support.h"
#include "tessera/attention/selectors.h"
#include "tessera/base/error.h"

namespace tessera::attention {
namespace {

class TriShape : public Selector {
 public:
  // last = 0 is A-shape.
  TriShape(const TriShapeOptions& options, const char* name) : options_(options), name_(name) {
    if (options.sinks < 0 || options.window < 1 || options.last < 0) {
      throw Error(ErrorCode::invalid_argument,
                  "{}: expected sinks >= 0, window >= 1 and last >= 0, found sinks={}, window={}, last={}", name,
                  options.sinks, options.window, options.last);
    }
  }

  std::string describe() const override {
    const std::string shape = fmt::format("{}(sinks={}, window={}", name_, options_.sinks, options_.window);
    return options_.last == 0 ? shape + ")" : fmt::format("{}, last={})", shape, options_.last);
  }

  WorkList select(const AttentionInput& input, const SelectContext&) const override {
    WorkList work = start_work_list(input);
    const size_t group = work.heads.size() / input.heads.size();
    for (size_t kv_head = 0; kv_head < input.heads.size(); ++kv_head) {
      const HeadWork head = select_head(HeadGeometry(input, input.heads[kv_head]));
      std::fill_n(work.heads.begin() + static_cast<int64_t>(kv_head * group), group, head);
    }
    return work;
  }

 private:
  // Whole tiles of sinks as tiles, the rest of them as columns; every tile that holds a row of the window.
  HeadWork select_head(const HeadGeometry& geometry) const {
    HeadWork head;
    TileWriter writer(head);
    const int64_t sinks = std::min(options_.sinks, geometry.key_rows);
    const int64_t sink_tiles = sinks / kTileRows;
    for (int64_t tile = 0; tile < geometry.query_tiles(); ++tile) {
      const int64_t last_tile = geometry.visible_tiles(tile) - 1;
      const int64_t end = std::min((tile + 1) * kTileRows, geometry.query_rows());
      const bool dense = end > geometry.query_rows() - options_.last;
      writer.add(0, dense ? last_tile : std::min(sink_tiles - 1, last_tile));
      writer.add(std::max<int64_t>(0, geometry.first_own(tile) - options_.window + 1) / kTileRows, last_tile);
      writer.end_query_tile();
    }
    std::vector<int32_t> columns(static_cast<size_t>(sinks % kTileRows));
    std::iota(columns.begin(), columns.end(), static_cast<int32_t>(sink_tiles * kTileRows));
    set_columns(head, std::move(columns), geometry);
    return head;
  }

  TriShapeOptions options_;
  const char* name_;
};

}  // namespace

std::unique_ptr<Selector> make_a_shape(const AShapeOptions& options) {
  return std::make_unique<TriShape>(TriShapeOptions{options.sinks, options.window, 0}, "a-shape");
}

std::unique_ptr<Selector> make_tri_shape(const TriShapeOptions& options) {
  if (options.last < 1) {
    throw Error(ErrorCode::invalid_argument, "tri-shape: expected last >= 1, found {}", options.last);
  }
  return std::make_unique<TriShape>(options, "tri-shape");
}

}  // namespace tessera::attention
