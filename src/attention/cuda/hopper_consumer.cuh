// A consumer warpgroup: 64 query rows, scores and output in registers.
//
// Of unit j it issues the score product, then the output product of unit j - 1, and works on the scores of j while the
// latter runs. The two consumer warpgroups take turns in issuing (barriers kTurn), so that one multiplies while the
// other exponentiates: the intra- and inter-warpgroup overlap of FlashAttention-3 (arXiv 2407.08608, sections 3.1
// and 3.2).
#pragma once

#include "attention/cuda/hopper_shared.cuh"
#include "attention/cuda/wgmma.cuh"

namespace tessera::attention::cuda {

constexpr int kTurn = 1;  // named barriers kTurn and kTurn + 1; 0 is __syncthreads
constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

template <typename Element, int kHeadDim, int kListedTile, bool kList>
class Consumer {
 public:
  static constexpr int kKeyTile = unit_rows(kHeadDim, kListedTile);  // keys of a unit
  static constexpr int kTilesPerUnit = kKeyTile / kListedTile;
  static constexpr bool kBands = kList && kListedTile == kBandTile;
  using Shape = HopperShape<kHeadDim, kKeyTile>;
  using Shared = HopperShared<kHeadDim, kKeyTile>;
  static constexpr int kScores = kKeyTile / 2;   // accumulators per thread of the 64 x kKeyTile scores
  static constexpr int kOutputs = kHeadDim / 2;  // of the 64 x kHeadDim output
  static constexpr int kWeights = kKeyTile / 4;  // packed 16-bit pairs

  __device__ __forceinline__ Consumer(const Problem& problem, const ListWork& work, Shared& shared, int group)
      : problem_(problem), work_(work), shared_(shared), group_(group), thread_(static_cast<int>(threadIdx.x) % 128) {}

  __device__ __forceinline__ void run() {
    if (group_ == 1) ptx::named_barrier_arrive(kTurn, 256);  // group 0 begins
    while (true) {
      ptx::mbarrier_wait(&shared_.item_full[items_.stage], items_.parity);
      ConsumerItem item = read_item();
      release(&shared_.item_empty[items_.stage]);
      items_.next();
      if (item.head < 0) break;
      attend(item);
      store(item);
    }
    if (group_ == 0) ptx::named_barrier_sync(kTurn, 256);  // takes the last turn that group 1 gave
  }

 private:
  __device__ __forceinline__ void release(uint64_t* barrier) {
    __syncwarp();
    if (thread_ % 32 == 0) ptx::mbarrier_arrive(barrier);
  }

  // What the producer wrote is read by the lane that will hand the stage back, for its warp: then reading and handing
  // back are in the order of one thread.
  template <typename Word>
  __device__ __forceinline__ Word read(const Word& word) {
    int value = thread_ % 32 == 0 ? static_cast<int>(word) : 0;
    return static_cast<Word>(__shfl_sync(0xffffffffu, value, 0));
  }

  __device__ __forceinline__ ConsumerItem read_item() {
    const ConsumerItem& from = shared_.item[items_.stage];
    return {read(from.head),     read(from.units),    read(from.first_row), read(from.rows),
            read(from.position), read(from.key_rows), read(from.slot),      0};
  }

  __device__ __forceinline__ void begin_turn() { ptx::named_barrier_sync(kTurn + group_, 256); }
  __device__ __forceinline__ void end_turn() { ptx::named_barrier_arrive(kTurn + 1 - group_, 256); }

  // scores = queries x keys^T of the stage; leaves the group uncommitted.
  __device__ __forceinline__ void issue_scores(float (&scores)[kScores], int stage) {
    uint32_t queries = ptx::shared_address(shared_.queries) + static_cast<uint32_t>(group_) * 64 * kBoxRowBytes;
    uint32_t keys = ptx::shared_address(shared_.keys[stage]);
#pragma unroll
    for (int step = 0; step < kHeadDim / 16; ++step) {
      Wgmma<Element, kKeyTile>::template shared<0>(
          scores, row_operand_descriptor(queries + row_operand_step(kQueryTile, step)),
          row_operand_descriptor(keys + row_operand_step(kKeyTile, step)), step > 0);
    }
  }

  // output (+)= weights x values of the stage.
  __device__ __forceinline__ void issue_output(const uint32_t (&weights)[kWeights], int stage, bool accumulate) {
    uint32_t values = ptx::shared_address(shared_.values[stage]);
#pragma unroll
    for (int step = 0; step < kKeyTile / 16; ++step) {
      Wgmma<Element, kHeadDim>::template registers<1>(
          output_, weights + 4 * step, column_operand_descriptor(values + column_operand_step(step), kKeyTile),
          step > 0 || accumulate);
    }
  }

  __device__ __forceinline__ void mask(float (&scores)[kScores], uint32_t unit, int stage, const ConsumerItem& item) {
    int row = accumulator_row(thread_, 0) + group_ * 64;
    if (kList && (unit & kColumnUnit)) {
      mask_columns(scores, unit, stage, item.position + row);
      return;
    }
    // Row `row` sees key c of a tile when c <= limit.
    constexpr int kTileScores = kScores / kTilesPerUnit;
    int last_key = item.key_rows - 1;
#pragma unroll
    for (int t = 0; t < kTilesPerUnit; ++t) {
      int first_key = read(shared_.first_key[stage][t]);
      if constexpr (kBands) last_key = read(shared_.last_key[stage][t]);
      int limit_low = min(item.position + row, last_key) - first_key;
      int limit_high = min(item.position + row + 8, last_key) - first_key;
#pragma unroll
      for (int i = t * kTileScores; i < (t + 1) * kTileScores; ++i) {
        int key = accumulator_column(thread_, i) - t * kListedTile;
        if (key > (i % 4 < 2 ? limit_low : limit_high)) scores[i] = -INFINITY;
      }
    }
  }

  // Row `position` sees the columns of the unit before the first that stands after it, as they ascend; of most units,
  // all. What follows the list's last column may hold anything and is not kept.
  __device__ __forceinline__ void mask_columns(float (&scores)[kScores], uint32_t unit, int stage, int position) {
    int limit_low = kKeyTile;
    int limit_high = kKeyTile;
    if (unit & kLateColumns) {
#pragma unroll 1
      for (int i = kKeyTile - 1; i >= 0; --i) {
        int column = read(shared_.column_position[stage][i]);
        if (column > position) limit_low = i;
        if (column > position + 8) limit_high = i;
      }
    }
    uint32_t keep = 0;
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      if (i % 16 == 0) keep = read(shared_.column_keep[stage][i / 16]);
      int column = accumulator_column(thread_, i);
      bool kept = keep >> (column % 32) & 1;
      if (!kept || column >= (i % 4 < 2 ? limit_low : limit_high)) scores[i] = -INFINITY;
    }
  }

  // Online softmax of one unit: scores become weights (f32), row maxima and sums move on; returns in `rescale` by how
  // much earlier sums and outputs shrink. A row that has seen no key keeps maximum -infinity and weights 0.
  __device__ __forceinline__ void soften(float (&scores)[kScores], float (&rescale)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = maximum_[half];
#pragma unroll
      for (int i = 0; i < kScores / 4; ++i) {
        top = fmaxf(top, fmaxf(scores[4 * i + 2 * half], scores[4 * i + 2 * half + 1]));
      }
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
      float base = top == -INFINITY ? 0.0f : top * scale_;
      rescale[half] = ptx::exp2_approximate(maximum_[half] * scale_ - base);
      maximum_[half] = top;
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kScores / 4; ++i) {
        float a = ptx::exp2_approximate(fmaf(scores[4 * i + 2 * half], scale_, -base));
        float b = ptx::exp2_approximate(fmaf(scores[4 * i + 2 * half + 1], scale_, -base));
        scores[4 * i + 2 * half] = a;
        scores[4 * i + 2 * half + 1] = b;
        sum += a + b;
      }
      sum_[half] = sum_[half] * rescale[half] + sum;
    }
  }

  __device__ __forceinline__ void pack_weights(const float (&scores)[kScores], uint32_t (&weights)[kWeights]) {
#pragma unroll
    for (int i = 0; i < kWeights; ++i) weights[i] = ptx::pack<Element>(scores[2 * i], scores[2 * i + 1]);
  }

  __device__ __forceinline__ void attend(const ConsumerItem& item) {
    maximum_[0] = maximum_[1] = -INFINITY;
    sum_[0] = sum_[1] = 0;
    if (item.units == 0) return;
    scale_ = problem_.scale * kLog2E;
    float scores[kScores];
    uint32_t weights[kWeights];
    float rescale[2];

    ptx::mbarrier_wait(&shared_.queries_full, queries_parity_);
    queries_parity_ ^= 1;

    // Unit 0.
    ptx::mbarrier_wait(&shared_.keys_full[keys_.stage], keys_.parity);
    uint32_t unit = read(shared_.unit[keys_.stage]);
    begin_turn();
    ptx::keep_registers(scores);
    ptx::wgmma_fence();
    issue_scores(scores, keys_.stage);
    ptx::wgmma_commit();
    end_turn();
    ptx::wgmma_wait<0>();
    ptx::keep_registers(scores);
    if (unit & kMaskedTile) mask(scores, unit, keys_.stage, item);
    release(&shared_.keys_empty[keys_.stage]);
    keys_.next();
    if (item.units == 1) release(&shared_.queries_empty);
    soften(scores, rescale);
    pack_weights(scores, weights);

#pragma unroll 1
    for (int u = 1; u < item.units; ++u) {
      ptx::mbarrier_wait(&shared_.keys_full[keys_.stage], keys_.parity);
      unit = read(shared_.unit[keys_.stage]);
      begin_turn();
      ptx::keep_registers(scores);
      ptx::keep_registers(weights);
      ptx::keep_registers(output_);
      ptx::wgmma_fence();
      issue_scores(scores, keys_.stage);
      ptx::wgmma_commit();
      ptx::mbarrier_wait(&shared_.values_full[values_.stage], values_.parity);
      ptx::wgmma_fence();
      issue_output(weights, values_.stage, u > 1);
      ptx::wgmma_commit();
      end_turn();
      ptx::wgmma_wait<1>();
      ptx::keep_registers(scores);
      if (unit & kMaskedTile) mask(scores, unit, keys_.stage, item);
      release(&shared_.keys_empty[keys_.stage]);
      keys_.next();
      if (u + 1 == item.units) release(&shared_.queries_empty);
      soften(scores, rescale);
      ptx::wgmma_wait<0>();
      ptx::keep_registers(output_);
      ptx::keep_registers(weights);
      release(&shared_.values_empty[values_.stage]);
      values_.next();
#pragma unroll
      for (int i = 0; i < kOutputs; ++i) output_[i] *= rescale[i % 4 / 2];
      pack_weights(scores, weights);
    }

    ptx::mbarrier_wait(&shared_.values_full[values_.stage], values_.parity);
    ptx::keep_registers(weights);
    ptx::keep_registers(output_);
    ptx::wgmma_fence();
    issue_output(weights, values_.stage, item.units > 1);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::keep_registers(output_);
    release(&shared_.values_empty[values_.stage]);
    values_.next();
  }

  __device__ __forceinline__ void store(const ConsumerItem& item) {
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = sum_[half];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      bool seen = sum > 0;
      factor[half] = seen ? 1.0f / sum : 0.0f;
      int row = accumulator_row(thread_, 2 * half) + group_ * 64;
      if (thread_ % 4 == 0 && row < item.rows) {
        float lse = seen ? maximum_[half] * problem_.scale + logf(sum) : -INFINITY;
        if (kList && item.slot >= 0) {
          work_.partial_lse[int64_t{item.slot} * kQueryTile + row] = lse;
        } else {
          problem_.lse[(int64_t{item.first_row} + row) * problem_.lse_stride + item.head] = lse;
        }
      }
    }
    // Without units the accumulators were never written.
    if (item.units == 0) {
#pragma unroll
      for (int i = 0; i < kOutputs; ++i) output_[i] = 0;
    } else {
#pragma unroll
      for (int i = 0; i < kOutputs; ++i) output_[i] = factor[i % 4 / 2] == 0 ? 0 : output_[i] * factor[i % 4 / 2];
    }
    if (kList && item.slot >= 0) {
      store_partial(item);
    } else {
      store_output(item);
    }
  }

  // A quad holds, of one row, 8 bytes x 4 lanes of each 16-byte column group; a 4 x 4 exchange gives each lane one
  // whole group of four, so that a lane writes 16 bytes and a quad 64 contiguous ones.
  __device__ __forceinline__ void store_output(const ConsumerItem& item) {
    Element* out = static_cast<Element*>(problem_.out) + int64_t{item.first_row} * problem_.out_stride[0] +
                   int64_t{item.head} * problem_.out_stride[1];
    int lane = thread_ % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int row = accumulator_row(thread_, 2 * half) + group_ * 64;
#pragma unroll
      for (int block = 0; block < kHeadDim / 32; ++block) {
        uint32_t mine[4];
#pragma unroll
        for (int g = 0; g < 4; ++g) {
          int i = (block * 4 + g) * 4 + 2 * half;
          mine[g] = ptx::pack<Element>(output_[i], output_[i + 1]);
        }
        transpose_quad(mine, lane);
        if (row < item.rows) {
          *reinterpret_cast<uint4*>(out + int64_t{row} * problem_.out_stride[0] + block * 32 + lane * 8) =
              make_uint4(mine[0], mine[1], mine[2], mine[3]);
        }
      }
    }
  }

  // words[g] of lane l becomes words[l] of lane g.
  static __device__ __forceinline__ void transpose_quad(uint32_t (&words)[4], int lane) {
    bool odd = lane & 1;
    bool high = lane & 2;
#pragma unroll
    for (int pair = 0; pair < 4; pair += 2) {
      uint32_t sent = odd ? words[pair] : words[pair + 1];
      uint32_t got = __shfl_xor_sync(0xffffffffu, sent, 1);
      if (odd) {
        words[pair] = got;
      } else {
        words[pair + 1] = got;
      }
    }
#pragma unroll
    for (int g = 0; g < 2; ++g) {
      uint32_t sent = high ? words[g] : words[g + 2];
      uint32_t got = __shfl_xor_sync(0xffffffffu, sent, 2);
      if (high) {
        words[g] = got;
      } else {
        words[g + 2] = got;
      }
    }
  }

  __device__ __forceinline__ void store_partial(const ConsumerItem& item) {
    float* out = work_.partial_out + int64_t{item.slot} * kQueryTile * kHeadDim;
#pragma unroll
    for (int i = 0; i < kOutputs; i += 2) {
      int row = accumulator_row(thread_, i) + group_ * 64;
      *reinterpret_cast<float2*>(out + row * kHeadDim + accumulator_column(thread_, i)) =
          make_float2(output_[i], output_[i + 1]);
    }
  }

  const Problem& problem_;
  const ListWork& work_;
  Shared& shared_;
  int group_;
  int thread_;
  float scale_ = 0;  // of the scores, in powers of two
  float output_[kOutputs];
  float maximum_[2];
  float sum_[2];
  uint32_t queries_parity_ = 0;
  Ring<2> items_;
  Ring<Shape::kStages> keys_;
  Ring<Shape::kStages> values_;
};

}  // namespace tessera::attention::cuda
