#include <algorithm>

#include "attention/cuda/probe.h"

namespace tessera::attention::cuda {
namespace {

void set_row(Probe& probe, int32_t slot, int32_t row, int32_t query_begin, int32_t first_position) {
  probe.rows[slot] = query_begin + row;
  probe.own[slot] = first_position + row;
}

void clear(Probe& probe) {
  std::fill_n(probe.rows, kProbeRows, 0);
  std::fill_n(probe.own, kProbeRows, -1);
}

}  // namespace

void set_last_rows(Probe& probe, int32_t query_begin, int32_t query_rows, int32_t first_position) {
  clear(probe);
  probe.row_count = std::min(query_rows, kProbeRows);
  for (int32_t i = 0; i < probe.row_count; ++i) {
    set_row(probe, i, query_rows - probe.row_count + i, query_begin, first_position);
  }
}

int32_t set_spread_rows(Probe& probe, int32_t query_begin, int32_t query_rows, int32_t first_position) {
  clear(probe);
  constexpr int32_t kRows = kProbeRows / kProbeGroups;
  const int32_t tiles = (query_rows + kProbeTile - 1) / kProbeTile;
  const int32_t groups = std::min(tiles, kProbeGroups);
  probe.row_count = groups * kRows;
  for (int32_t g = 0; g < groups; ++g) {
    const auto tile = static_cast<int32_t>(int64_t{g + 1} * tiles / groups - 1);
    const int32_t rows = std::min(kProbeTile, query_rows - tile * kProbeTile);
    for (int32_t i = 0; i < kRows; ++i) {
      set_row(probe, g * kRows + i, tile * kProbeTile + (2 * i + 1) * rows / (2 * kRows), query_begin, first_position);
    }
  }
  return groups;
}

void set_splits(Probe& probe, int multiprocessors) {
  const int32_t group = probe.query_heads / probe.kv_heads;
  const int32_t heads = std::min(group, kProbeHeadsPerBlock);
  const int32_t blocks = probe.kv_heads * ((group + heads - 1) / heads);
  const int32_t at_once = multiprocessors * (kProbeHeadsPerBlock / heads);
  const int32_t steps = (probe.key_rows + kProbeKeys - 1) / kProbeKeys;
  // As few rounds as keep nine in ten busy.
  int32_t rounds = 1;
  while (rounds < 4 && rounds * at_once / blocks * blocks * 10 < 9 * rounds * at_once) ++rounds;
  const int32_t wanted = std::clamp(rounds * at_once / blocks, 1, kMaxProbeSplits);
  probe.range_steps = std::max(4, ((steps + wanted - 1) / wanted + 1) / 2 * 2);
  probe.splits = (steps + probe.range_steps - 1) / probe.range_steps;
}

}  // namespace tessera::attention::cuda
