// Bodies of the probe (probe.h) in arithmetic that the host repeats bit by bit, one block per range of keys and query
// head: lists that are chosen from these masses are the same on the host and on the device.
//
// Rows of queries and keys become 8-bit codes with a step per row (code * step, |code| <= 127), their products are sums
// of integers, exponentials follow exact_math.h, and everything that is added up is an integer: the sum of a row's
// exponentials in units of 2^-31 of its largest, weights in units of 2^-24. Three passes: largest score, sum, weights.
#pragma once

#include "attention/cuda/exact_math.h"
#include "attention/cuda/line_lists.h"
#include "attention/cuda/probe.h"

namespace tessera::attention::cuda {

constexpr int kExactThreads = 256;
constexpr float kRowUnits = 2147483648.0F;   // 2^31
constexpr float kWeightUnits = 16777216.0F;  // 2^24
using ExactBlock = Block<kExactThreads>;

enum class ExactPass { largest, sum, lines, spread, columns };

// Of all query heads, zeros before the first pass.
struct ExactRows {
  uint32_t* top = nullptr;  // [query_heads, kProbeRows] order key of the largest score in bits
  uint64_t* sum = nullptr;  // [query_heads, kProbeRows]
};

template <int kHeadDim>
struct ExactShared {
  static constexpr int kWords = kHeadDim / 4;
  static constexpr int kPitch = kWords + 1;  // rows fall into different banks
  uint32_t queries[kProbeRows][kPitch];      // four codes each
  uint32_t keys[kProbeKeys][kPitch];
  uint32_t largest[kProbeRows];  // bits of the largest channel of a row, of the queries, then of each step's keys
  float query_step[kProbeRows];
  float key_step[kProbeKeys];
  float scores[kProbeRows][kProbeKeys + 1];
  uint32_t weights[kProbeRows][kProbeKeys + 1];
  float top[kProbeRows];
  float share[kProbeRows];  // of a row's exponentials in its weights
  uint32_t row_top[kProbeRows];
  uint64_t row_sum[kProbeRows];
  uint32_t group_mass[kProbeGroups];
};

// Elements are bf16 or f16 bits.
TESSERA_SIMT inline float element_value(uint16_t bits, bool half_precision) {
  if (!half_precision) return bits_float(static_cast<uint32_t>(bits) << 16);
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t magnitude = bits & 0x7fffu;
  // 2^-24 per unit below the smallest normal number; exact.
  if (magnitude < 0x400u) {
    const float small = exact_multiply(static_cast<float>(magnitude), 5.9604644775390625e-8F);
    return sign != 0 ? -small : small;
  }
  if (magnitude >= 0x7c00u) return bits_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  return bits_float(sign | ((magnitude << 13) + 0x38000000u));
}

TESSERA_SIMT inline int32_t dot_codes(uint32_t a, uint32_t b, int32_t sum) {
#if defined(__CUDA_ARCH__)
  return __dp4a(static_cast<int32_t>(a), static_cast<int32_t>(b), sum);
#else
  for (int i = 0; i < 4; ++i) {
    sum += static_cast<int8_t>(a >> (8 * i) & 0xffu) * static_cast<int8_t>(b >> (8 * i) & 0xffu);
  }
  return sum;
#endif
}

// Where a block stands.
struct ExactPlace {
  int32_t head = 0;
  int32_t first_step = 0, last_step = 0;
  bool half_precision = false;
};

template <int kHeadDim, ExactPass kPass>
struct ExactProbe {
  using Shared = ExactShared<kHeadDim>;
  const ExactBlock& block;
  const Probe& probe;
  const ExactRows& rows;
  ExactPlace at;
  Shared& shared;

  // Codes of 64 rows, four threads each. source(row): its first element, or null.
  template <typename Source>
  TESSERA_SIMT void encode(const Source& source, uint32_t (&codes)[64][Shared::kPitch], float (&steps)[64]) const {
    constexpr int kShare = kHeadDim / 4;  // channels of a thread
    block.each([&](int thread) {
      if (thread < 64) shared.largest[thread] = 0;
    });
    block.each([&](int thread) {
      const uint16_t* from = source(thread / 4);
      if (from == nullptr) return;
      float largest = 0;
      for (int c = thread % 4 * kShare; c < (thread % 4 + 1) * kShare; ++c) {
        const float size = bits_float(float_bits(element_value(from[c], at.half_precision)) & 0x7fffffffu);
        largest = size > largest ? size : largest;
      }
      ExactBlock::highest(&shared.largest[thread / 4], float_bits(largest));
    });
    block.each([&](int thread) {
      const int row = thread / 4;
      const uint16_t* from = source(row);
      const float largest = bits_float(shared.largest[row]);
      const float factor = largest > 0 ? exact_divide(127, largest) : 0;
      for (int word = thread % 4 * kShare / 4; word < (thread % 4 + 1) * kShare / 4; ++word) {
        uint32_t packed = 0;
        for (int i = 0; i < 4 && from != nullptr; ++i) {
          const float code = exact_round(exact_multiply(element_value(from[word * 4 + i], at.half_precision), factor));
          packed |= (static_cast<uint32_t>(static_cast<int32_t>(code)) & 0xffu) << (8 * i);
        }
        codes[row][word] = packed;
      }
      if (thread % 4 == 0) steps[row] = exact_divide(largest, 127);
    });
  }

  TESSERA_SIMT int32_t key_row(int32_t key) const {  // -1: there is none
    if constexpr (kPass == ExactPass::columns) {
      return key < probe.column_count[at.head] ? probe.columns[int64_t{at.head} * probe.column_stride + key] : -1;
    }
    return key < probe.key_rows ? key : -1;
  }

  // Scores in bits of 64 keys, -infinity where a row does not see the key.
  TESSERA_SIMT void score(int32_t step) const {
    const int32_t kv_head = at.head / (probe.query_heads / probe.kv_heads);
    const auto* keys = static_cast<const uint16_t*>(probe.keys) + kv_head * probe.key_stride[1];
    encode(
        [&](int k) {
          const int32_t row = key_row(step * kProbeKeys + k);
          return row >= 0 ? keys + row * probe.key_stride[0] : nullptr;
        },
        shared.keys, shared.key_step);
    const float scale = exact_multiply(probe.scale, 1.4426950408889634F);
    block.each([&](int thread) {
      int32_t dots[4][4] = {};
      for (int word = 0; word < Shared::kWords; ++word) {
        uint32_t query[4];
        uint32_t key[4];
        for (int i = 0; i < 4; ++i) query[i] = shared.queries[thread / 16 + 16 * i][word];
        for (int i = 0; i < 4; ++i) key[i] = shared.keys[thread % 16 + 16 * i][word];
        for (int i = 0; i < 4; ++i) {
          for (int j = 0; j < 4; ++j) dots[i][j] = dot_codes(query[i], key[j], dots[i][j]);
        }
      }
      for (int j = 0; j < 4; ++j) {
        const int key = thread % 16 + 16 * j;
        const int32_t row = key_row(step * kProbeKeys + key);
        const float key_step = exact_multiply(shared.key_step[key], scale);
        for (int i = 0; i < 4; ++i) {
          const int r = thread / 16 + 16 * i;
          const bool seen = row >= 0 && row <= probe.own[r];
          const float product = exact_multiply(static_cast<float>(dots[i][j]), shared.query_step[r]);
          shared.scores[r][key] = seen ? exact_multiply(product, key_step) : -INFINITY;
        }
      }
    });
  }

  TESSERA_SIMT void weigh() const {
    block.each([&](int thread) {
      for (int i = thread; i < kProbeRows * kProbeKeys; i += kExactThreads) {
        const int r = i / kProbeKeys;
        const float score = shared.scores[r][i % kProbeKeys];
        const float part = score > -INFINITY ? exact_exp2(exact_add(score, -shared.top[r])) : 0;
        shared.weights[r][i % kProbeKeys] = static_cast<uint32_t>(exact_multiply(part, shared.share[r]));
      }
    });
  }

  TESSERA_SIMT static float mass(uint32_t units) {
    return exact_multiply(static_cast<float>(units), 1.0F / kWeightUnits);
  }

  TESSERA_SIMT void sum_columns(int32_t step) const {
    block.each([&](int thread) {
      const int32_t key = step * kProbeKeys + thread;
      if (thread >= kProbeKeys || key >= probe.key_rows) return;
      uint32_t sums[2] = {};  // of even and of odd groups
      uint32_t top = 0;
      for (int r = 0; r < kProbeRows; ++r) {
        const uint32_t weight = shared.weights[r][thread];
        const int odd = r / (kProbeRows / kProbeGroups) % 2;
        sums[odd] += weight;
        if (odd == 0 && weight > top) top = weight;
      }
      const int64_t to = int64_t{at.head} * probe.key_rows + key;
      if constexpr (kPass == ExactPass::spread) {
        probe.column_mass[to] = mass(sums[1]);
        probe.column_gain[to] = mass(sums[0] - top);
      } else {
        probe.column_mass[to] = mass(sums[0] + sums[1]);
      }
    });
  }

  // Into diagonal_mass as integers; finish_diagonals() turns them into masses.
  TESSERA_SIMT void sum_diagonals(int32_t step) const {
    block.each([&](int thread) {
      const int offset = thread - (kProbeKeys - 1);  // row - key
      const int32_t distance = probe.own[0] - step * kProbeKeys + offset;
      if (thread >= kProbeRows + kProbeKeys - 1 || distance < 0 || distance >= probe.key_rows) return;
      uint32_t sum = 0;
      for (int r = offset > 0 ? offset : 0; r < kProbeRows && r - offset < kProbeKeys; ++r) {
        sum += shared.weights[r][r - offset];
      }
      auto* masses = reinterpret_cast<uint32_t*>(probe.diagonal_mass) + int64_t{at.head} * probe.key_rows;
      if (sum > 0) ExactBlock::add(&masses[distance], sum);
    });
  }

  TESSERA_SIMT void sum_groups(int32_t step) const {
    block.each([&](int thread) {
      if (thread >= kProbeRows) return;
      uint32_t sum = 0;
      for (int key = 0; key < kProbeKeys; ++key) sum += shared.weights[thread][key];
      ExactBlock::add(&shared.group_mass[thread / (kProbeRows / kProbeGroups)], sum);
    });
    if (step % 2 == 0 && step + 1 < at.last_step) return;
    block.each([&](int thread) {
      if (thread >= kProbeGroups) return;
      probe.tile_mass[(int64_t{at.head} * kProbeGroups + thread) * probe.key_tiles() + step / 2] =
          mass(shared.group_mass[thread]);
      shared.group_mass[thread] = 0;
    });
  }

  TESSERA_SIMT void store_column_groups(int32_t step) const {
    block.each([&](int thread) {
      for (int i = thread; i < kProbeKeys * kProbeGroups; i += kExactThreads) {
        const int key = i / kProbeGroups;
        const int group = i % kProbeGroups;
        uint32_t sum = 0;
        for (int r = 0; r < kProbeRows / kProbeGroups; ++r) {
          sum += shared.weights[group * (kProbeRows / kProbeGroups) + r][key];
        }
        probe.column_groups[(int64_t{at.head} * probe.column_stride + step * kProbeKeys + key) * kProbeGroups + group] =
            mass(sum);
      }
    });
  }

  TESSERA_SIMT void observe() const {
    block.each([&](int thread) {
      const int r = thread / 4;
      float top = -INFINITY;
      uint64_t sum = 0;
      for (int key = thread % 4; key < kProbeKeys; key += 4) {
        const float score = shared.scores[r][key];
        if constexpr (kPass == ExactPass::largest) {
          top = score > top ? score : top;
        } else {
          const float part = score > -INFINITY ? exact_exp2(exact_add(score, -shared.top[r])) : 0;
          sum += static_cast<uint32_t>(exact_multiply(part, kRowUnits));
        }
      }
      if constexpr (kPass == ExactPass::largest) {
        if (top > -INFINITY) ExactBlock::highest(&shared.row_top[r], order_key(top));
      } else {
        ExactBlock::add(&shared.row_sum[r], sum);
      }
    });
  }

  TESSERA_SIMT void run() const {
    const auto* queries = static_cast<const uint16_t*>(probe.queries) + at.head * probe.query_stride[1];
    encode(
        [&](int r) { return probe.own[r] >= 0 ? queries + int64_t{probe.rows[r]} * probe.query_stride[0] : nullptr; },
        shared.queries, shared.query_step);
    const int64_t base = int64_t{at.head} * kProbeRows;
    block.each([&](int thread) {
      if (thread >= kProbeRows) return;
      shared.row_top[thread] = 0;
      shared.row_sum[thread] = 0;
      if (thread < kProbeGroups) shared.group_mass[thread] = 0;
      if constexpr (kPass == ExactPass::largest) return;
      const uint32_t top = rows.top[base + thread];
      shared.top[thread] = top != 0 ? value_of_key(top) : 0;
      if constexpr (kPass == ExactPass::sum) return;
      const uint64_t sum = rows.sum[base + thread];
      const float units = exact_multiply(kRowUnits, kWeightUnits);
      shared.share[thread] = sum > 0 ? exact_divide(units, static_cast<float>(sum)) : 0;
    });
    for (int32_t step = at.first_step; step < at.last_step; ++step) {
      score(step);
      if constexpr (kPass == ExactPass::largest || kPass == ExactPass::sum) {
        observe();
      } else {
        weigh();
        if constexpr (kPass == ExactPass::columns) {
          store_column_groups(step);
        } else {
          sum_columns(step);
          if constexpr (kPass == ExactPass::lines) sum_diagonals(step);
          if constexpr (kPass == ExactPass::spread) sum_groups(step);
        }
      }
    }
    if constexpr (kPass == ExactPass::largest || kPass == ExactPass::sum) {
      block.each([&](int thread) {
        if (thread >= kProbeRows) return;
        if constexpr (kPass == ExactPass::largest)
          ExactBlock::highest(&rows.top[base + thread], shared.row_top[thread]);
        if constexpr (kPass == ExactPass::sum) ExactBlock::add(&rows.sum[base + thread], shared.row_sum[thread]);
      });
    }
  }
};

// Integers of sum_diagonals() become masses, in place.
TESSERA_SIMT inline void finish_diagonal(float* masses, int64_t i) {
  masses[i] = exact_multiply(static_cast<float>(reinterpret_cast<uint32_t*>(masses)[i]), 1.0F / kWeightUnits);
}

// Ranges of steps of the passes over chosen columns.
constexpr int kColumnSteps = 4;

// Memory of ExactRows lies in Probe::partial.
TESSERA_SIMT inline ExactRows exact_rows(const Probe& probe) {
  auto* sums = reinterpret_cast<uint64_t*>(probe.partial);
  return {reinterpret_cast<uint32_t*>(sums + int64_t{probe.query_heads} * kProbeRows), sums};
}
TESSERA_SIMT inline int64_t exact_row_bytes(const Probe& probe) { return int64_t{probe.query_heads} * kProbeRows * 12; }

}  // namespace tessera::attention::cuda
