// Decode on the host: a cache in host memory, the kernels' bodies run over it, and fp64 beside them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "attention/cuda/decode_body.h"
#include "attention/cuda/decode_pages.h"
#include "attention/cuda/decode_select.h"
#include "gpu/page_code.h"

namespace tessera::attention::cuda::decode_host {

inline std::vector<uint16_t> random_rows(std::size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> bits(count);
  for (uint16_t& x : bits) x = __bfloat16_as_ushort(__float2bfloat16(normal(random)));
  return bits;
}

struct Shape {
  int32_t sequences = 1, query_heads = 4, kv_heads = 1;
  std::vector<int32_t> lengths = {100};
  int32_t table_heads = 1;
  int32_t budget = 0;
  int32_t blocks = 3;
  int warps = 2;
  bool spread = false;  // warps take turns at chunks of 16 rows instead of pages
};

// A cache in host memory, and the kernels' bodies run over it in the order of the launches.
template <typename Pages, int kDim>
class Host {
 public:
  using Page = PageShape<Pages, kDim>;

  explicit Host(const Shape& shape) : shape_(shape) {
    rows_ = *std::max_element(shape.lengths.begin(), shape.lengths.end());
    stride_ = std::max(1, (rows_ + kPageRows - 1) / kPageRows);
    const auto heads = static_cast<std::size_t>(shape.sequences * shape.kv_heads);
    queries_ = random_rows(static_cast<std::size_t>(shape.sequences * shape.query_heads) * kDim, 1);
    keys_ = random_rows(heads * static_cast<std::size_t>(rows_) * kDim, 2);
    values_ = random_rows(heads * static_cast<std::size_t>(rows_) * kDim, 3);
    const std::size_t pages = heads * static_cast<std::size_t>(stride_);
    // What lies beyond a length must not matter: 0xff is NaN in every format.
    key_pool_.assign(pages * Page::kKeyPage, 0xff);
    value_pool_.assign(pages * Page::kValuePage, 0xff);
    bounds_.assign(pages * 2 * kDim, 0xffff);
    const int32_t entries = shape.table_heads == 1 ? shape.sequences : static_cast<int32_t>(heads);
    table_.resize(static_cast<std::size_t>(entries * stride_));
    std::iota(table_.begin(), table_.end(), 0);
    std::shuffle(table_.begin(), table_.end(), std::mt19937(4));
    const auto query_rows = static_cast<std::size_t>(shape.sequences * shape.query_heads);
    out_.assign(query_rows * kDim, std::numeric_limits<float>::quiet_NaN());
    lse_.assign(query_rows, std::numeric_limits<float>::quiet_NaN());
    fill_problem();
    write();
  }

  void run() {
    if (problem_.selection != nullptr) choose();
    for (int32_t worker = 0; worker < shares_of(problem_).workers; ++worker) work(worker);
    for (int32_t row = 0; row < shape_.sequences * shape_.query_heads; ++row) {
      for (int c = 0; c < kDim; ++c) merge_head(problem_, row / shape_.query_heads, row % shape_.query_heads, c);
    }
  }

  // Largest error of the outputs relative to the largest output, and of the LSE, against fp64 over the stored codes.
  std::pair<double, double> errors() const {
    double out_error = 0;
    double lse_error = 0;
    double largest = 1e-300;
    for (int32_t s = 0; s < shape_.sequences; ++s) {
      for (int32_t h = 0; h < shape_.query_heads; ++h) {
        const auto [out, lse] = reference(s, h);
        const auto row = static_cast<std::size_t>(s * shape_.query_heads + h);
        for (std::size_t c = 0; c < kDim; ++c) {
          const double difference = std::abs(out[c] - out_[row * kDim + c]);
          if (!(difference <= out_error)) out_error = difference;  // NaN stays
          largest = std::max(largest, std::abs(out[c]));
        }
        const double difference = lse == lse_[row] ? 0 : std::abs(lse - lse_[row]);
        if (!(difference <= lse_error)) lse_error = difference;
      }
    }
    return {out_error / largest, lse_error};
  }

  double key(int32_t s, int32_t head, int32_t row, int c) const { return number(key_pool_, s, head, row, c, true); }
  double original_key(int32_t s, int32_t head, int32_t row, int c) const {
    return Bfloat::decode(keys_[((static_cast<std::size_t>(s) * rows_ + row) * shape_.kv_heads + head) * kDim + c]);
  }
  double value(int32_t s, int32_t head, int32_t row, int c) const {
    return number(value_pool_, s, head, row, c, false);
  }
  double original_value(int32_t s, int32_t head, int32_t row, int c) const {
    return Bfloat::decode(values_[((static_cast<std::size_t>(s) * rows_ + row) * shape_.kv_heads + head) * kDim + c]);
  }
  double query(int32_t s, int32_t h, int c) const {
    return Bfloat::decode(queries_[(static_cast<std::size_t>(s) * shape_.query_heads + h) * kDim + c]);
  }
  const DecodeProblem& problem() const { return problem_; }
  std::vector<float>& out() { return out_; }
  const std::vector<float>& lse() const { return lse_; }
  const std::vector<int32_t>& selection() const { return selection_; }
  const std::vector<float>& scores() const { return scores_; }

 private:
  void fill_problem() {
    problem_.queries = queries_.data();
    problem_.out = out_.data();
    problem_.lse = lse_.data();
    problem_.query_stride[0] = problem_.out_stride[0] = int64_t{shape_.query_heads} * kDim;
    problem_.query_stride[1] = problem_.out_stride[1] = kDim;
    problem_.lse_stride = shape_.query_heads;
    problem_.keys = key_pool_.data();
    problem_.values = value_pool_.data();
    problem_.bounds = reinterpret_cast<uint8_t*>(bounds_.data());
    problem_.table = table_.data();
    problem_.lengths = shape_.lengths.data();
    problem_.sequences = shape_.sequences;
    problem_.query_heads = shape_.query_heads;
    problem_.kv_heads = shape_.kv_heads;
    problem_.head_dim = kDim;
    problem_.group = shape_.query_heads / shape_.kv_heads;
    problem_.passes = (problem_.group + kHeadsPerPass - 1) / kHeadsPerPass;
    problem_.table_heads = shape_.table_heads;
    problem_.table_stride = stride_;
    problem_.budget = shape_.budget;
    problem_.first_pages = 1;
    problem_.last_pages = 2;
    problem_.blocks = shape_.blocks;
    problem_.scale_log2 = 1.44269504F / std::sqrt(static_cast<float>(kDim));
    problem_.out_is_float = true;
    const int32_t lists = shape_.sequences * shape_.kv_heads;
    const auto rows = static_cast<std::size_t>(slot_count(shape_.blocks, lists * problem_.passes) * kHeadsPerPass);
    partial_out_.assign(rows * kDim, std::numeric_limits<float>::quiet_NaN());
    partial_max_.assign(rows, std::numeric_limits<float>::quiet_NaN());
    partial_sum_.assign(rows, std::numeric_limits<float>::quiet_NaN());
    problem_.partial_out = partial_out_.data();
    problem_.partial_max = partial_max_.data();
    problem_.partial_sum = partial_sum_.data();
    if (shape_.budget > 0) {
      selection_.assign(static_cast<std::size_t>(lists * shape_.budget), -1);
      scores_.assign(static_cast<std::size_t>(lists * stride_), std::numeric_limits<float>::quiet_NaN());
      problem_.selection = selection_.data();
      problem_.page_scores = scores_.data();
    }
  }

  int64_t page_index(int32_t s, int32_t head, int32_t logical) const {
    if (shape_.table_heads == 1) {
      return int64_t{table_[static_cast<std::size_t>(s * stride_ + logical)]} * shape_.kv_heads + head;
    }
    return table_[static_cast<std::size_t>((s * shape_.kv_heads + head) * stride_ + logical)];
  }

  void write() {
    for (int32_t s = 0; s < shape_.sequences; ++s) {
      for (int32_t head = 0; head < shape_.kv_heads; ++head) {
        for (int32_t page = 0; page < pages_of(problem_, s); ++page) {
          const int64_t at = page_index(s, head, page);
          const auto row = (static_cast<std::size_t>(s) * rows_ + page * kPageRows) * shape_.kv_heads + head;
          write_page<Pages, kDim>({},
                                  {keys_.data() + row * kDim, values_.data() + row * kDim,
                                   int64_t{shape_.kv_heads} * kDim, int64_t{shape_.kv_heads} * kDim,
                                   std::min(kPageRows, shape_.lengths[static_cast<std::size_t>(s)] - page * kPageRows)},
                                  {key_pool_.data() + at * Page::kKeyPage, value_pool_.data() + at * Page::kValuePage,
                                   reinterpret_cast<uint8_t*>(bounds_.data()) + at * 4 * kDim});
        }
      }
    }
  }

  void choose() {
    for (int32_t list = 0; list < shape_.sequences * shape_.kv_heads; ++list) {
      const int32_t s = list / shape_.kv_heads;
      const int32_t head = list % shape_.kv_heads;
      const int32_t pages = pages_of(problem_, s);
      float* scores = problem_.page_scores + int64_t{list} * stride_;
      for (int32_t start = 0; start < pages; start += kBoundPages) {
        const auto page = [&](int lane) { return start + lane / kBoundLanes; };
        Lanes<const uint8_t*> bounds = {};
        for (int lane = 0; lane < kWarp; ++lane) {
          if (page(lane) >= pages || is_forced(problem_, page(lane), pages)) continue;
          bounds[lane] = problem_.bounds + page_index(s, head, page(lane)) * 4 * kDim;
        }
        Lanes<float> best;
        page_bounds<kDim>(
            problem_.queries + s * problem_.query_stride[0] + head * problem_.group * problem_.query_stride[1], kDim,
            problem_.group, bounds, best);
        for (int lane = 0; lane < kWarp; ++lane) {
          if (page(lane) < pages) scores[page(lane)] = bounds[lane] != nullptr ? best[lane] : INFINITY;
        }
      }
      SelectShared shared;
      select_largest({}, scores, pages, problem_.budget, problem_.selection + int64_t{list} * problem_.budget, shared);
    }
  }

  // One thread block: its warps one after the other, job by job.
  void work(int32_t worker) {
    const Shares shares = shares_of(problem_);
    const int32_t end = shares.begin(worker + 1);
    int32_t segment = shares.begin(worker);
    while (segment < end) {
      const JobRange job = job_at(problem_, segment);
      const int32_t segment_end = std::min(job.end, end);
      const int32_t pass = job.job % problem_.passes;
      const int32_t kv_head = job.job / problem_.passes % problem_.kv_heads;
      const int32_t heads = std::min(kHeadsPerPass, problem_.group - pass * kHeadsPerPass);
      const auto warps = static_cast<std::size_t>(shape_.warps);
      std::vector<float> out(warps * kHeadsPerPass * kDim), max(warps * kHeadsPerPass), sum(warps * kHeadsPerPass);
      for (int warp = 0; warp < shape_.warps; ++warp) {
        DecodeWarp<Pages, kDim> state;
        state.start(problem_.queries + job.sequence * problem_.query_stride[0] +
                        (kv_head * problem_.group + pass * kHeadsPerPass) * problem_.query_stride[1],
                    problem_.query_stride[1], heads);
        if (shape_.spread) {
          for (int32_t chunk = 4 * segment + warp; chunk < 4 * segment_end; chunk += shape_.warps) {
            const PageAt at = page_at(problem_, job, chunk / 4 - job.begin);
            attend_chunk(state, at, chunk % 4);
          }
        } else {
          for (int32_t unit = segment + warp; unit < segment_end; unit += shape_.warps) {
            const PageAt at = page_at(problem_, job, unit - job.begin);
            const std::vector<uint8_t> page = page_of(at.page);
            state.attend(
                page.data(), problem_.scale_log2, at.rows, [](int) {}, [](int) {});
          }
        }
        state.finish(out.data() + warp * kHeadsPerPass * kDim, max.data() + warp * kHeadsPerPass,
                     sum.data() + warp * kHeadsPerPass, heads);
      }
      const int64_t row = slot_of(worker, job.job) * kHeadsPerPass;
      for (int head = 0; head < heads; ++head) {
        for (int c = 0; c < kDim; ++c) {
          const Merged merged = merge_channel(
              {out.data() + head * kDim, max.data() + head, sum.data() + head, shape_.warps, kHeadsPerPass}, kDim, c);
          problem_.partial_out[(row + head) * kDim + c] = merged.out;
          problem_.partial_max[row + head] = merged.max;
          problem_.partial_sum[row + head] = merged.sum;
        }
      }
      segment = segment_end;
    }
  }

  std::vector<uint8_t> page_of(int64_t at) const {
    std::vector<uint8_t> page(Page::kKeyPage + Page::kValuePage);
    std::copy_n(problem_.keys + at * Page::kKeyPage, Page::kKeyPage, page.data());
    std::copy_n(problem_.values + at * Page::kValuePage, Page::kValuePage, page.data() + Page::kKeyPage);
    return page;
  }

  // Rows of one chunk, moved to another place of a stage whose key parameters lie apart.
  void attend_chunk(DecodeWarp<Pages, kDim>& state, const PageAt& at, int chunk) const {
    const std::vector<uint8_t> page = page_of(at.page);
    if (at.rows <= 16 * chunk) return;
    const int slot = (chunk + 1) % 4;
    std::vector<uint8_t> stage(page.size(), 0xff);
    const auto move = [&](std::size_t begin, std::size_t bytes) {
      const auto from = page.begin() + static_cast<std::ptrdiff_t>(begin + static_cast<std::size_t>(chunk) * bytes);
      std::copy(from, from + static_cast<std::ptrdiff_t>(bytes),
                stage.begin() + static_cast<std::ptrdiff_t>(begin + static_cast<std::size_t>(slot) * bytes));
    };
    move(0, 16 * Page::kRowBytes);
    move(Page::kKeyPage, 16 * Page::kRowBytes);
    for (std::size_t set = 0; set * 2 * kPageRows < Page::kValueParameters; ++set) {
      move(Page::kKeyPage + Page::kCodeBytes + set * 2 * kPageRows, 32);
    }
    state.attend_chunk(stage.data(), page.data() + Page::kCodeBytes, slot, problem_.scale_log2, at.rows - 16 * chunk);
  }

  double number(const std::vector<uint8_t>& pool, int32_t s, int32_t head, int32_t row, int c, bool is_key) const {
    const int64_t bytes = is_key ? Page::kKeyPage : Page::kValuePage;
    const uint8_t* page = pool.data() + page_index(s, head, row / kPageRows) * bytes;
    const double code = code_number(Pages::kFormat, page + row % kPageRows * Page::kRowBytes, c);
    if (!Pages::kScaled) return code;
    const auto* parameters = reinterpret_cast<const uint16_t*>(page + Page::kCodeBytes);
    const int groups = is_key ? kDim : kPageRows;
    const int group = is_key ? c : row % kPageRows;
    return code * Half::decode(parameters[group]) + (Pages::kZeroed ? Half::decode(parameters[groups + group]) : 0);
  }

  std::pair<std::vector<double>, double> reference(int32_t s, int32_t h) const {
    const int32_t head = h / problem_.group;
    std::vector<double> scores;
    std::vector<int32_t> rows;
    for (int32_t row = 0; row < shape_.lengths[static_cast<std::size_t>(s)]; ++row) {
      if (shape_.budget > 0 && pages_of(problem_, s) > shape_.budget) {
        const auto first = selection_.begin() + (s * shape_.kv_heads + head) * shape_.budget;
        if (!std::binary_search(first, first + shape_.budget, row / kPageRows)) continue;
      }
      double score = 0;
      for (int c = 0; c < kDim; ++c) score += query(s, h, c) * key(s, head, row, c);
      scores.push_back(score / std::sqrt(static_cast<double>(kDim)));
      rows.push_back(row);
    }
    std::vector<double> out(kDim, 0.0);
    if (scores.empty()) return {out, -std::numeric_limits<double>::infinity()};
    const double top = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      const double p = std::exp(scores[i] - top);
      sum += p;
      for (int c = 0; c < kDim; ++c) out[static_cast<std::size_t>(c)] += p * value(s, head, rows[i], c);
    }
    for (double& x : out) x /= sum;
    return {out, top + std::log(sum)};
  }

  Shape shape_;
  int32_t rows_, stride_;
  std::vector<uint16_t> queries_, keys_, values_, bounds_;
  std::vector<uint8_t> key_pool_, value_pool_;
  std::vector<int32_t> table_, selection_;
  std::vector<float> scores_, out_, lse_, partial_out_, partial_max_, partial_sum_;
  DecodeProblem problem_ = {};
};

}  // namespace tessera::attention::cuda::decode_host
