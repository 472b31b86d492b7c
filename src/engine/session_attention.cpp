#include "engine/session_attention.h"

#include <algorithm>
#include <cstring>

#include "tessera/base/clock.h"

namespace tessera::engine {
namespace {

// The last `count` rows of a followed by b, both [rows, heads, head_dim]; a may be undefined.
Tensor last_rows(const Tensor& a, const Tensor& b, int64_t count) {
  const int64_t rows_b = b.shape()[0];
  if (rows_b >= count) return b.slice(rows_b - count, count).clone();
  const int64_t rows_a = a.defined() ? a.shape()[0] : 0;
  const int64_t from_a = std::min(rows_a, count - rows_b);
  Tensor joined = Tensor::empty(DType::f32, {from_a + rows_b, b.shape()[1], b.shape()[2]});
  if (from_a > 0) {
    const Tensor part = a.slice(rows_a - from_a, from_a);
    std::memcpy(joined.mutable_raw(), part.raw(), static_cast<size_t>(part.bytes()));
  }
  std::memcpy(joined.mutable_raw() + from_a * (b.bytes() / rows_b), b.raw(), static_cast<size_t>(b.bytes()));
  return joined;
}

}  // namespace

SessionAttention::SessionAttention(const Setup& setup)
    : setup_(setup), last_queries_(static_cast<size_t>(setup.cache.layout().layers)) {}

void SessionAttention::begin_chunk(int64_t rows_after) { rows_after_ = rows_after; }

void SessionAttention::observe(const Call& call) {
  const int64_t window = setup_.method.cache->observation_window();
  if (window == 0) return;
  Tensor& kept = last_queries_[static_cast<size_t>(call.layer)];
  kept = last_rows(kept, call.queries, window);
}

attention::AttentionPartial SessionAttention::compute(const Call& call, const kv::LayerView& view,
                                                      const attention::AttentionInput& input) {
  const bool select = setup_.stage == SessionStage::first_prefill && setup_.method.prefill;
  const bool load = setup_.stage == SessionStage::decode && setup_.loader != nullptr;
  const auto rows = static_cast<double>(call.queries.shape()[0]);
  const double area = rows * (static_cast<double>(call.first_position) + (rows + 1) / 2);
  dense_area_ += area;
  if (!select && !load) {
    const Stopwatch watch;
    attention::AttentionPartial dense = attention::attend_dense(input, {.pool = setup_.pool});
    attention_ms_ += watch.elapsed().wall_ms;
    computed_area_ += area;
    return dense;
  }
  const Stopwatch selecting;
  const attention::WorkList work =
      select
          ? setup_.method.prefill->select(input, {.layer = call.layer, .rows_after = rows_after_, .pool = setup_.pool})
          : setup_.loader->select(call.layer, input, view);
  select_ms_ += selecting.elapsed().wall_ms;
  const Stopwatch attending;
  attention::AttentionPartial sparse = attention::attend(input, work, {.pool = setup_.pool});
  attention_ms_ += attending.elapsed().wall_ms;
  computed_area_ += area * attention::executed_density(work);
  if (select && setup_.measure_skipped_mass) {
    const Stopwatch measuring;
    skipped_mass_ += attention::skipped_mass(input, sparse, 8, {.pool = setup_.pool});
    ++skipped_samples_;
    const Elapsed elapsed = measuring.elapsed();
    measuring_.wall_ms += elapsed.wall_ms;
    measuring_.cpu_ms += elapsed.cpu_ms;
  }
  return sparse;
}

void SessionAttention::attend(const Call& call, Tensor& out) {
  setup_.cache.append(call.layer, call.keys, call.values, call.first_position);
  {
    const kv::LayerView view = setup_.cache.view(call.layer);
    const attention::AttentionInput input{
        .queries = call.queries, .heads = view.heads, .first_position = call.first_position};
    const attention::AttentionPartial result = compute(call, view, input);
    std::memcpy(out.mutable_raw(), result.out.raw(), static_cast<size_t>(out.bytes()));
  }
  if (!setup_.method.cache) return;
  if (setup_.stage != SessionStage::first_prefill) {
    setup_.method.cache->after_append(setup_.cache, call.layer);
    return;
  }
  observe(call);
  if (rows_after_ > 0) return;
  kv::PrefillEnd end{.layer = call.layer, .pool = setup_.pool};
  if (Tensor& kept = last_queries_[static_cast<size_t>(call.layer)]; kept.defined()) {
    end.last_queries = kept;
    end.first_position = call.first_position + call.queries.shape()[0] - kept.shape()[0];
    kept = {};
  }
  setup_.method.cache->after_prefill(setup_.cache, end);
}

PrefillStats SessionAttention::stats() const {
  PrefillStats stats;
  stats.density = dense_area_ > 0 ? computed_area_ / dense_area_ : 1;
  stats.select_ms = select_ms_;
  stats.attention_ms = attention_ms_;
  if (skipped_samples_ > 0) {
    stats.skipped_mass = skipped_mass_ / static_cast<double>(skipped_samples_);
  } else if (stats.density < 1) {
    stats.skipped_mass = {};
  }
  return stats;
}

}  // namespace tessera::engine
