#include "kv/observed_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kv/kernels.h"
#include "tessera/base/error.h"

namespace tessera::kv {
namespace {

using attention::HeadKeys;
using attention::kTileRows;

constexpr int64_t kTilesPerTask = 16;

class Observer {
 public:
  Observer(const LayerView& view, int64_t head_dim, const PrefillEnd& end)
      : view_(view),
        head_dim_(head_dim),
        queries_(end.last_queries.shape()[0]),
        group_(end.last_queries.shape()[1] / std::ssize(view.heads)),
        first_position_(end.first_position),
        pool_(end.pool != nullptr ? *end.pool : ThreadPool::shared()) {
    pack(end.last_queries);
    for (const HeadKeys& head : view.heads) {
      tasks_per_head_ = std::max(tasks_per_head_, (std::ssize(head.tiles) + kTilesPerTask - 1) / kTilesPerTask);
    }
  }

  std::vector<std::vector<float>> votes() {
    std::vector<std::vector<float>> result;
    for (const HeadKeys& head : view_.heads) {
      result.emplace_back(head.tiles.size() * kTileRows, 0.0F);  // padded to whole tiles until the end
    }
    measure_masses();
    for_each_tile([&](const TileCall& call) {
      float* sums = result[static_cast<size_t>(call.head)].data() + call.tile * kTileRows;
      for (int64_t lane = 0; lane < lanes(); ++lane) {
        const int visible = visible_rows(call, lane);
        const float shift = log_sums_[static_cast<size_t>(call.head * lanes() + lane)];
        if (visible > 0) add_exponentials(call.scores + lane * kTileRows, shift, visible, sums);
      }
    });
    for (size_t h = 0; h < result.size(); ++h) {
      result[h].resize(static_cast<size_t>(view_.heads[h].rows));
      for (float& vote : result[h]) vote /= static_cast<float>(group_);
    }
    return result;
  }

 private:
  struct TileCall {
    int64_t head = 0;
    int64_t task = 0;  // within the head
    int64_t tile = 0;
    const float* scores = nullptr;  // [lanes][64]
  };

  // A lane is one (query row, query head of the group) pair: lane = row * group + member.
  int64_t lanes() const { return queries_ * group_; }

  // Packs queries [queries, query_heads, head_dim] as [kv_heads][lanes][head_dim], scaled.
  void pack(const Tensor& queries) {
    const auto kv_heads = std::ssize(view_.heads);
    const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim_));
    packed_.resize(static_cast<size_t>(queries.elements()));
    const float* from = queries.data<float>();
    for (int64_t row = 0; row < queries_; ++row) {
      for (int64_t head = 0; head < kv_heads * group_; ++head, from += head_dim_) {
        const int64_t lane = row * group_ + head % group_;
        float* to = packed_.data() + (head / group_ * lanes() + lane) * head_dim_;
        for (int64_t c = 0; c < head_dim_; ++c) to[c] = from[c] * scale;
      }
    }
  }

  // How many leading rows of the tile the lane's query sees.
  int visible_rows(const TileCall& call, int64_t lane) const {
    const HeadKeys& head = view_.heads[static_cast<size_t>(call.head)];
    const int64_t position = first_position_ + lane / group_;
    const int64_t first = call.tile * kTileRows;
    int rows = head.tiles[static_cast<size_t>(call.tile)].rows;
    while (rows > 0 && head.position(first + rows - 1) > position) --rows;
    return rows;
  }

  // Calls body with the scores of every tile; tiles of one task in order, on one thread.
  template <typename Body>
  void for_each_tile(const Body& body) {
    pool_.parallel_for(0, std::ssize(view_.heads) * tasks_per_head_, 1, [&](int64_t begin, int64_t end, int) {
      std::vector<float> scores(static_cast<size_t>(lanes() * kTileRows));
      TileKeys keys(head_dim_);
      for (int64_t index = begin; index < end; ++index) {
        TileCall call{.head = index / tasks_per_head_, .task = index % tasks_per_head_, .scores = scores.data()};
        const auto& tiles = view_.heads[static_cast<size_t>(call.head)].tiles;
        const TileQueries queries{packed_.data() + call.head * lanes() * head_dim_, lanes(), head_dim_};
        const int64_t last = std::min((call.task + 1) * kTilesPerTask, std::ssize(tiles));
        for (call.tile = call.task * kTilesPerTask; call.tile < last; ++call.tile) {
          tile_scores(queries, keys.of(tiles[static_cast<size_t>(call.tile)]), scores.data());
          body(call);
        }
      }
    });
  }

  // First pass: log_sums_[head][lane] = log sum over the visible rows of exp(score).
  void measure_masses() {
    struct Mass {
      double top = -std::numeric_limits<double>::infinity();
      double sum = 0;
      void add(double other_top, double other_sum) {
        if (other_sum == 0) return;
        const double higher = std::max(top, other_top);
        sum = sum * std::exp(top - higher) + other_sum * std::exp(other_top - higher);
        top = higher;
      }
    };
    const int64_t kv_heads = std::ssize(view_.heads);
    std::vector<Mass> parts(static_cast<size_t>(kv_heads * tasks_per_head_ * lanes()));
    for_each_tile([&](const TileCall& call) {
      Mass* mass = parts.data() + (call.head * tasks_per_head_ + call.task) * lanes();
      for (int64_t lane = 0; lane < lanes(); ++lane) {
        const int visible = visible_rows(call, lane);
        if (visible == 0) continue;
        const TileMass part = softmax_mass(call.scores + lane * kTileRows, visible);
        mass[lane].add(part.top, part.sum);
      }
    });
    log_sums_.resize(static_cast<size_t>(kv_heads * lanes()));
    for (int64_t head = 0; head < kv_heads; ++head) {
      for (int64_t lane = 0; lane < lanes(); ++lane) {
        Mass whole;
        for (int64_t task = 0; task < tasks_per_head_; ++task) {
          const Mass& part = parts[static_cast<size_t>((head * tasks_per_head_ + task) * lanes() + lane)];
          whole.add(part.top, part.sum);
        }
        log_sums_[static_cast<size_t>(head * lanes() + lane)] = static_cast<float>(whole.top + std::log(whole.sum));
      }
    }
  }

  const LayerView& view_;
  int64_t head_dim_;
  int64_t queries_;
  int64_t group_;
  int64_t first_position_;
  ThreadPool& pool_;
  int64_t tasks_per_head_ = 0;
  std::vector<float> packed_;    // [kv_heads][lanes][head_dim]
  std::vector<float> log_sums_;  // [kv_heads][lanes]
};

}  // namespace

std::vector<std::vector<float>> observed_attention(const LayerView& view, int64_t head_dim, const PrefillEnd& end) {
  const Shape& shape = end.last_queries.shape();
  const int64_t kv_heads = std::ssize(view.heads);
  if (shape.rank() != 3 || shape[0] < 1 || shape[1] < 1 || shape[1] % kv_heads != 0 || shape[2] != head_dim ||
      end.last_queries.dtype() != DType::f32) {
    throw Error(ErrorCode::invalid_argument,
                "observed queries: expected f32 [rows, a multiple of {} heads, {}], found {} {}", kv_heads, head_dim,
                to_string(end.last_queries.dtype()), shape.str());
  }
  return Observer(view, head_dim, end).votes();
}

}  // namespace tessera::kv
