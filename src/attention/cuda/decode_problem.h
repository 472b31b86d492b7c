// What the decode kernels are told, and how the pages of all heads are shared among thread blocks. Pure functions,
// tested on the host.
#pragma once

#include <cstdint>

#include "attention/cuda/host_device.h"
#include "tessera/attention/cuda_decode.h"

namespace tessera::attention::cuda {

constexpr int kHeadsPerPass = 8;  // columns of the matrix instruction; larger groups take several passes

struct DecodeProblem {
  const uint16_t* queries;  // bf16
  void* out;
  float* lse;
  int64_t query_stride[2], out_stride[2];  // elements per sequence, per head
  int64_t lse_stride;
  const uint8_t* keys;
  const uint8_t* values;
  const uint8_t* bounds;
  const int32_t* table;
  const int32_t* lengths;
  int32_t* selection;  // [sequences, kv_heads, budget]; null: all pages
  float* page_scores;  // [sequences, kv_heads, table_stride]
  float* partial_out;  // [slots, 8, head_dim], not normalised
  float* partial_max;  // [slots, 8], base 2
  float* partial_sum;  // [slots, 8]
  int32_t* arrivals;   // [jobs] partial results there; null: a kernel merges
  int32_t sequences, query_heads, kv_heads, head_dim, group, passes;
  int32_t table_heads, table_stride, budget, first_pages, last_pages, blocks;
  int32_t workers_per_job;    // 0: the line is divided evenly; more only for one sequence, whose jobs are equal
  int32_t prefetch_bytes[2];  // of a page's keys and values that the choice asks for early; 0: it does not
  float scale_log2;           // of the scores, times log2(e)
  bool out_is_float;
  bool keeps_selection;  // the caller reads `selection`
};

TESSERA_HOST_DEVICE int32_t pages_of(const DecodeProblem& problem, int32_t sequence) {
  return (problem.lengths[sequence] + kPageRows - 1) / kPageRows;
}

// Pages attended per KV head.
TESSERA_HOST_DEVICE int32_t units_of(const DecodeProblem& problem, int32_t sequence) {
  const int32_t pages = pages_of(problem, sequence);
  return problem.selection != nullptr && pages > problem.budget ? problem.budget : pages;
}

// A job is one pass over one KV head of one sequence: job = (sequence * kv_heads + kv_head) * passes + pass. Its units
// are consecutive numbers on one line over all jobs, which check() keeps below 2^31.
struct JobRange {
  int32_t job, sequence;
  int32_t begin, end;
};

TESSERA_HOST_DEVICE int32_t total_units(const DecodeProblem& problem) {
  int32_t total = 0;
  TESSERA_ROLLED
  for (int32_t s = 0; s < problem.sequences; ++s) total += units_of(problem, s);
  return total * problem.kv_heads * problem.passes;
}

// The job that owns number `unit` < total_units().
TESSERA_HOST_DEVICE JobRange job_at(const DecodeProblem& problem, int32_t unit) {
  const int32_t jobs = problem.kv_heads * problem.passes;
  int32_t begin = 0;
  TESSERA_ROLLED
  for (int32_t s = 0; s < problem.sequences; ++s) {
    const int32_t each = units_of(problem, s);
    if (unit < begin + each * jobs) {
      const int32_t within = (unit - begin) / each;
      return {s * jobs + within, s, begin + within * each, begin + (within + 1) * each};
    }
    begin += each * jobs;
  }
  return {problem.sequences * jobs, problem.sequences, begin, begin};
}

TESSERA_HOST_DEVICE JobRange range_of_job(const DecodeProblem& problem, int32_t job) {
  const int32_t jobs = problem.kv_heads * problem.passes;
  const int32_t sequence = job / jobs;
  int32_t begin = 0;
  TESSERA_ROLLED
  for (int32_t s = 0; s < sequence; ++s) begin += units_of(problem, s) * jobs;
  const int32_t each = units_of(problem, sequence);
  begin += job % jobs * each;
  return {job, sequence, begin, begin + each};
}

// Equal shares of the line, or of each job where every job has workers of its own; the first `longer` ones by one unit
// longer; none is empty.
struct Shares {
  int32_t workers, units, longer;
  int32_t group, group_units;  // workers that share a piece of the line, and its units

  TESSERA_HOST_DEVICE int32_t begin(int32_t worker) const {
    const int32_t within = worker % group;
    return worker / group * group_units + within * units + (within < longer ? within : longer);
  }
  TESSERA_HOST_DEVICE int32_t owner(int32_t unit) const {
    const int32_t in_longer = longer * (units + 1);
    const int32_t within = unit % group_units;
    return unit / group_units * group +
           (within < in_longer ? within / (units + 1) : longer + (within - in_longer) / units);
  }
};

TESSERA_HOST_DEVICE Shares shares_of(const DecodeProblem& problem) {
  const int32_t total = total_units(problem);
  if (total == 0) return {0, 0, 0, 1, 1};
  if (problem.workers_per_job > 0) {  // one sequence
    const int32_t jobs = problem.kv_heads * problem.passes;
    const int32_t each = total / jobs;
    const int32_t group = each < problem.workers_per_job ? each : problem.workers_per_job;
    return {group * jobs, each / group, each % group, group, each};
  }
  const int32_t workers = total < problem.blocks ? total : problem.blocks;
  return {workers, total / workers, total % workers, workers, total};
}

// Partial result of a worker for a job: distinct, because along the line each step advances one of the two.
TESSERA_HOST_DEVICE int64_t slot_of(int32_t worker, int32_t job) { return int64_t{worker} + job; }

inline int64_t slot_count(int64_t blocks, int64_t jobs) { return blocks + jobs; }

// Page of the pools that unit `index` of a job reads, and how many of its rows are valid.
struct PageAt {
  int64_t page;
  int32_t rows;
};

TESSERA_HOST_DEVICE PageAt page_at(const DecodeProblem& problem, const JobRange& job, int32_t index) {
  const int32_t head = job.job / problem.passes % problem.kv_heads;
  const int64_t list = int64_t{job.sequence} * problem.kv_heads + head;
  const int32_t logical = problem.selection != nullptr ? problem.selection[list * problem.budget + index] : index;
  const int32_t left = problem.lengths[job.sequence] - logical * kPageRows;
  const int32_t rows = left < kPageRows ? left : kPageRows;
  if (problem.table_heads == 1) {
    const int64_t entry = problem.table[int64_t{job.sequence} * problem.table_stride + logical];
    return {entry * problem.kv_heads + head, rows};
  }
  return {problem.table[list * problem.table_stride + logical], rows};
}

}  // namespace tessera::attention::cuda
