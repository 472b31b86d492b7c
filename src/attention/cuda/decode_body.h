// One warp's pass over pages: scores, online softmax, values, all in registers; then merges in a fixed order.
//
// Scores are computed as keys x queries (16 key rows by 8 query heads) and outputs as values^T x probabilities (16
// channels by 8 heads), so neither keys nor values are ever rearranged: the order of channels within a product is free,
// hence lanes read whole 4 to 16 byte units, and eight heads cost what one does. Scales of keys are folded into the
// queries once per page, zeros of keys are a product of their own, scales of values are folded into the probabilities.
#pragma once

#include "attention/cuda/decode_format.h"
#include "attention/cuda/decode_problem.h"

namespace tessera::attention::cuda {

TESSERA_SIMT inline float minus_infinity() { return -INFINITY; }

template <typename Pages, int kDim>
struct DecodeWarp {
  using Shape = PageShape<Pages, kDim>;
  using Operand = typename Pages::Operand;

  Lanes<uint32_t> query[Shape::kPairs];   // of head lane / 4
  Lanes<float> out[Shape::kTiles][4];     // times kValueUnit
  Lanes<float> max[2], sum[2], zero[2];   // of heads 2 * (lane % 4) and the next; sum and zero over this lane's rows
  Lanes<uint32_t> scaled[Shape::kPairs];  // queries times the scales of the page's keys
  Lanes<float> base[4];                   // queries times the zeros of the page's keys
  Lanes<float> score[4];                  // of 16 rows; then their probabilities

  // `queries`: the first head of the pass; heads from `heads` on are zero.
  TESSERA_SIMT void start(const uint16_t* queries, int64_t head_stride, int32_t heads) {
    load_queries(queries, head_stride, heads);
    start_loaded();
  }

  // The two halves of start(); other loads in between overlap with those of the queries.
  TESSERA_SIMT void load_queries(const uint16_t* queries, int64_t head_stride, int32_t heads) {
    static_assert(Shape::kKeyPairs % 4 == 0);
    warp_each([&](int lane) {
      const int head = lane / 4;
      TESSERA_UNROLL
      for (int pair = 0; pair < Shape::kPairs; pair += 4) {
        uint32_t bits[4] = {};
        if (head < heads) load_words(bits, queries + head * head_stride + Shape::key_channel(lane % 4, pair));
        for (int i = 0; i < 4; ++i) query[pair + i][lane] = bits[i];
      }
    });
  }

  TESSERA_SIMT void start_loaded() {
    warp_each([&](int lane) {
      TESSERA_UNROLL
      for (int pair = 0; pair < Shape::kPairs; ++pair) {
        if constexpr (Pages::kScaled) {
          const uint32_t bits = query[pair][lane];
          query[pair][lane] = Half::pack(clamp_to_half(Bfloat::decode(static_cast<uint16_t>(bits))),
                                         clamp_to_half(Bfloat::decode(static_cast<uint16_t>(bits >> 16))));
        }
      }
      TESSERA_UNROLL
      for (int tile = 0; tile < Shape::kTiles; ++tile) {
        for (int r = 0; r < 4; ++r) out[tile][r][lane] = 0;
      }
      for (int h = 0; h < 2; ++h) {
        max[h][lane] = minus_infinity();
        sum[h][lane] = zero[h][lane] = 0;
      }
    });
  }

  // One page, 16 rows at a time: ready(i) returns when rows [16 i, 16 i + 16) of keys and values are there (with i = 0
  // the parameters of the keys too), done(i) may overwrite them. Codes of values of rows from `rows` on must be finite
  // numbers.
  template <typename Ready, typename Done>
  TESSERA_SIMT void attend(const uint8_t* page, float scale_log2, int32_t rows, const Ready& ready, const Done& done) {
    ready(0);
    start_page(page + Shape::kCodeBytes);
    TESSERA_ROLLED
    for (int tile = 0; tile < kPageRows / 16; ++tile) {
      if (tile > 0) ready(tile);
      if (tile * 16 < rows) {
        scores(page, tile);
        probabilities(scale_log2, rows - tile * 16);
        values(page + Shape::kKeyPage, tile);
      }
      done(tile);
    }
  }

  // 16 rows alone, which lie as rows [16 tile, 16 tile + 16) of a page, with the parameters of their keys apart.
  TESSERA_SIMT void attend_chunk(const uint8_t* page, const uint8_t* key_parameters, int tile, float scale_log2,
                                 int32_t rows) {
    start_page(key_parameters);
    scores(page, tile);
    probabilities(scale_log2, rows);
    values(page + Shape::kKeyPage, tile);
  }

  // Writes heads below `heads`: out[head * kDim + channel], not normalised, max[head] (base 2), sum[head].
  TESSERA_SIMT void finish(float* to_out, float* to_max, float* to_sum, int32_t heads) {
    for (int mask = 4; mask < kWarp; mask *= 2) {
      for (int h = 0; h < 2; ++h) {
        warp_add(sum[h], mask);
        if constexpr (Pages::kZeroed) warp_add(zero[h], mask);
      }
    }
    warp_each([&](int lane) {
      for (int h = 0; h < 2; ++h) {
        const int head = 2 * (lane % 4) + h;
        if (head >= heads) continue;
        if (lane / 4 == 0) {
          to_max[head] = max[h][lane];
          to_sum[head] = sum[h][lane];
        }
        TESSERA_UNROLL
        for (int tile = 0; tile < Shape::kTiles; ++tile) {
          for (int high = 0; high < 2; ++high) {
            const int channel = Shape::value_channel(lane / 4, tile, high);
            if (channel < kDim) {
              to_out[head * kDim + channel] = out[tile][2 * high + h][lane] * Pages::kValueUnit + zero[h][lane];
            }
          }
        }
      }
    });
  }

 private:
  TESSERA_SIMT static float clamp_to_half(float x) { return x > 65504.0F ? 65504.0F : x < -65504.0F ? -65504.0F : x; }

  // Scales (which 0) or zeros (1) of a pair of channels of a key page.
  TESSERA_SIMT static uint32_t parameter(const uint8_t* parameters, int which, int lane, int pair) {
    uint32_t bits[1];
    load_words(bits, parameters + 2 * (which * kDim + Shape::key_channel(lane % 4, pair)));
    return bits[0];
  }

  TESSERA_SIMT void start_page(const uint8_t* parameters) {
    warp_each([&](int lane) {
      for (int r = 0; r < 4; ++r) base[r][lane] = 0;
      TESSERA_UNROLL
      for (int pair = 0; pair < Shape::kPairs; ++pair) {
        scaled[pair][lane] = query[pair][lane];
        if constexpr (Pages::kScaled) {
          uint32_t scale = parameter(parameters, 0, lane, pair);
          if constexpr (Pages::kCodeUnit != 1) scale = Half::multiply(scale, 0x5c005c00u);  // 256
          scaled[pair][lane] = Half::multiply(query[pair][lane], scale);
        }
      }
    });
    if constexpr (Pages::kZeroed) {
      TESSERA_UNROLL
      for (int step = 0; step < Shape::kPairs / 2; ++step) {
        Lanes<uint32_t> a[4];
        warp_each([&](int lane) {
          a[0][lane] = a[1][lane] = parameter(parameters, 1, lane, 2 * step);
          a[2][lane] = a[3][lane] = parameter(parameters, 1, lane, 2 * step + 1);
        });
        const Lanes<uint32_t> b[2] = {query[2 * step], query[2 * step + 1]};
        multiply_add<Operand>(base, a, b);
      }
    }
  }

  // score = q.k for 16 rows of a key page.
  TESSERA_SIMT void scores(const uint8_t* page, int tile) {
    for (int r = 0; r < 4; ++r) score[r] = base[r];
    TESSERA_UNROLL
    for (int unit = 0; unit < Shape::kKeyUnits; ++unit) score_unit(page, tile, unit);
  }

  // Online softmax: probabilities in place of the scores. Rows from `rows` on count nothing.
  TESSERA_SIMT void probabilities(float scale_log2, int32_t rows) {
    Lanes<float> top[2];
    warp_each([&](int lane) {
      for (int r = 0; r < 4; ++r) {
        const bool valid = lane / 4 + r / 2 * 8 < rows;
        score[r][lane] = valid ? score[r][lane] * scale_log2 : minus_infinity();
      }
      for (int h = 0; h < 2; ++h) {
        top[h][lane] = score[h][lane] > score[h + 2][lane] ? score[h][lane] : score[h + 2][lane];
      }
    });
    for (int h = 0; h < 2; ++h) {
      for (int mask = 4; mask < kWarp; mask *= 2) warp_max(top[h], mask);
    }
    warp_each([&](int lane) {
      for (int h = 0; h < 2; ++h) {
        const float next = top[h][lane] > max[h][lane] ? top[h][lane] : max[h][lane];
        const float shift = next == minus_infinity() ? 0 : next;
        const float factor = exp2_fast(max[h][lane] - shift);
        max[h][lane] = next;
        zero[h][lane] *= factor;
        TESSERA_UNROLL
        for (int tile = 0; tile < Shape::kTiles; ++tile) {
          out[tile][h][lane] *= factor;
          out[tile][h + 2][lane] *= factor;
        }
        for (int r = h; r < 4; r += 2) score[r][lane] = exp2_fast(score[r][lane] - shift);
        sum[h][lane] = sum[h][lane] * factor + (score[h][lane] + score[h + 2][lane]);
      }
    });
  }

  // out += probabilities x values of 16 rows of a page.
  TESSERA_SIMT void values(const uint8_t* page, int tile) {
    Lanes<uint32_t> b[2];
    warp_each([&](int lane) {
      for (int side = 0; side < 2; ++side) {
        float p0 = score[2 * side][lane];
        float p1 = score[2 * side + 1][lane];
        if constexpr (Pages::kScaled) {
          const int row = tile * 16 + lane / 4 + side * 8;
          const auto* scales = reinterpret_cast<const uint16_t*>(page + Shape::kCodeBytes);
          if constexpr (Pages::kZeroed) {
            const float z = Half::decode(scales[kPageRows + row]);
            zero[0][lane] += p0 * z;
            zero[1][lane] += p1 * z;
          }
          const float scale = Half::decode(scales[row]) * kValueBoost;
          p0 *= scale;
          p1 *= scale;
        }
        b[side][lane] = Operand::pack(p0, p1);
      }
    });
    transpose(b[0]);
    transpose(b[1]);
    TESSERA_UNROLL
    for (int unit = 0; unit < Shape::kValueUnits; ++unit) value_unit(page, tile, unit, b);
  }

  TESSERA_SIMT void score_unit(const uint8_t* page, int tile, int unit) {
    constexpr int kWords = Shape::kKeyBytes / 4;
    constexpr int kPairsOfWord = 16 / Pages::kBits;
    Lanes<uint32_t> a[Shape::kKeyPairs / 2][4];
    warp_each([&](int lane) {
      TESSERA_UNROLL
      for (int side = 0; side < 2; ++side) {
        const int row = tile * 16 + lane / 4 + 8 * side;
        uint32_t words[kWords];
        load_words(words, page + row * Shape::kRowBytes + (unit * 4 + lane % 4) * Shape::kKeyBytes);
        TESSERA_UNROLL
        for (int w = 0; w < kWords; ++w) {
          uint32_t pairs[kPairsOfWord];
          Pages::key_pairs(words[w], pairs);
          TESSERA_UNROLL
          for (int i = 0; i < kPairsOfWord; ++i) {
            const int pair = w * kPairsOfWord + i;
            a[pair / 2][side + 2 * (pair % 2)][lane] = pairs[i];
          }
        }
      }
    });
    TESSERA_UNROLL
    for (int step = 0; step < Shape::kKeyPairs / 2; ++step) {
      const int first = unit * Shape::kKeyPairs + 2 * step;
      const Lanes<uint32_t> b[2] = {scaled[first], scaled[first + 1]};
      multiply_add<Operand>(score, a[step], b);
    }
  }

  TESSERA_SIMT void value_unit(const uint8_t* page, int tile, int unit, const Lanes<uint32_t> (&b)[2]) {
    constexpr int kWords = Shape::kValueBytes / 4;
    constexpr int kChannelsOfWord = 32 / Pages::kBits;
    Lanes<uint32_t> a[Shape::kValueChannels / 2][4];
    warp_each([&](int lane) {
      const int offset = (unit * 8 + lane / 4) * Shape::kValueBytes;
      TESSERA_UNROLL
      for (int side = 0; side < 2; ++side) {
        const uint8_t* row = page + (tile * 16 + 2 * (lane % 4) + 8 * side) * Shape::kRowBytes + offset;
        uint32_t low[kWords] = {};
        uint32_t high[kWords] = {};
        if (Shape::kRowBytes % (8 * Shape::kValueBytes) == 0 || offset < Shape::kRowBytes) {
          load_words(low, row);
          load_words(high, row + Shape::kRowBytes);
        }
        TESSERA_UNROLL
        for (int w = 0; w < kWords; ++w) {
          uint32_t pairs[kChannelsOfWord];
          Pages::value_pairs(low[w], high[w], pairs);
          TESSERA_UNROLL
          for (int i = 0; i < kChannelsOfWord; ++i) {
            const int channel = w * kChannelsOfWord + i;
            a[channel / 2][channel % 2 + 2 * side][lane] = pairs[i];
          }
        }
      }
    });
    TESSERA_UNROLL
    for (int step = 0; step < Shape::kValueChannels / 2; ++step) {
      multiply_add<Operand>(out[unit * (Shape::kValueChannels / 2) + step], a[step], b);
    }
  }
};

// Partial results of one head: max[i * stride], sum[i * stride], out[i * stride * head_dim + channel].
struct Partials {
  const float* out;
  const float* max;
  const float* sum;
  int32_t count, stride;
};

struct Merged {
  float max, sum, out;
};

// Channel `channel` of the merge, in order of the index.
TESSERA_SIMT inline Merged merge_channel(const Partials& parts, int32_t head_dim, int32_t channel) {
  Merged merged = {minus_infinity(), 0, 0};
  TESSERA_BATCHED
  for (int32_t i = 0; i < parts.count; ++i) {
    const float max = parts.max[i * parts.stride];
    merged.max = max > merged.max ? max : merged.max;
  }
  const float shift = merged.max == minus_infinity() ? 0 : merged.max;
  TESSERA_BATCHED
  for (int32_t i = 0; i < parts.count; ++i) {
    const float factor = exp2_fast(parts.max[i * parts.stride] - shift);
    merged.sum += factor * parts.sum[i * parts.stride];
    merged.out += factor * parts.out[i * parts.stride * head_dim + channel];
  }
  return merged;
}

// Writes a channel and, with channel 0, the LSE. Without rows: zeros and minus infinity.
TESSERA_SIMT inline void store_result(const DecodeProblem& problem, int32_t sequence, int32_t query_head,
                                      int32_t channel, const Merged& merged) {
  const bool empty = merged.sum == 0 && merged.max == minus_infinity();
  const float value = empty ? 0 : merged.out / merged.sum;
  const int64_t at = sequence * problem.out_stride[0] + query_head * problem.out_stride[1] + channel;
  if (problem.out_is_float) {
    static_cast<float*>(problem.out)[at] = value;
  } else {
    static_cast<uint16_t*>(problem.out)[at] = __bfloat16_as_ushort(__float2bfloat16(value));
  }
  if (channel == 0) {
    problem.lse[sequence * problem.lse_stride + query_head] =
        empty ? minus_infinity() : (merged.max + log2f(merged.sum)) * 0.69314718F;
  }
}

// Final value of a query head's channel, from the partial results of all blocks.
TESSERA_SIMT inline void merge_head(const DecodeProblem& problem, int32_t sequence, int32_t query_head,
                                    int32_t channel) {
  const int32_t head = query_head % problem.group;
  const int32_t job =
      (sequence * problem.kv_heads + query_head / problem.group) * problem.passes + head / kHeadsPerPass;
  const JobRange range = range_of_job(problem, job);
  const Shares shares = shares_of(problem);
  const bool empty = range.begin == range.end;
  const int32_t first = empty ? 0 : shares.owner(range.begin);
  const int32_t last = empty ? -1 : shares.owner(range.end - 1);
  const int64_t row = slot_of(first, job) * kHeadsPerPass + head % kHeadsPerPass;
  const Merged merged = merge_channel({problem.partial_out + row * problem.head_dim, problem.partial_max + row,
                                       problem.partial_sum + row, last - first + 1, kHeadsPerPass},
                                      problem.head_dim, channel);
  store_result(problem, sequence, query_head, channel, merged);
}

}  // namespace tessera::attention::cuda
