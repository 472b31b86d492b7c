// The inner loops of explain, compiled for the baseline instruction set and for AVX2 with FMA, chosen at run time.
#pragma once

#include <cstdint>

namespace tessera::explain {

constexpr int kLanes = 8;  // bootstrap replicates computed side by side

// Eight replicates of "delete a set D of rows from a fit" (Wu 1986, delete-d; here exact):
//   out[f][lane] = sum over D of influence[f][D] (M_DD)^-1 residual[D].
struct DeletionProblem {
  const double* matrix = nullptr;     // [rows, rows] symmetric: I - hat, or the inverse Gram matrix
  const double* residual = nullptr;   // [rows]
  const double* influence = nullptr;  // [functionals, rows]
  int64_t rows = 0;
  int64_t functionals = 0;
};

// The same through the parameters (push-through identity), cheaper when |D| exceeds their number:
//   out[f][lane] = functional[f] (I - Q_D' Q_D)^-1 Q_D' residual[D].
struct ParameterProblem {
  const double* packed = nullptr;      // [rows, p (p + 1) / 2]: lower triangle of q q' per row, then padding to 4
  const double* moment = nullptr;      // [rows, padded p]: q times the row's residual
  const double* functional = nullptr;  // [functionals, p]
  int64_t parameters = 0;
  int64_t packed_stride = 0;
  int64_t moment_stride = 0;
  int64_t functionals = 0;
};

struct Lanes {
  const char* name;
  // sets: [size][kLanes] row numbers; out: [functionals][kLanes]; scratch as said by *_scratch below. Returns a bit per
  // lane whose matrix was not positive definite (its result is then meaningless).
  unsigned (*delete_rows)(const DeletionProblem& problem, const int32_t* sets, int64_t size, double* out,
                          double* scratch);
  unsigned (*delete_by_parameters)(const ParameterProblem& problem, const int32_t* sets, int64_t size, double* out,
                                   double* scratch);
  // out[i] = sum_j weight[j] (column[j][i] - centre[j])^2 for i in [0, count); count <= 1024.
  void (*distances)(const float* const* columns, const float* centre, const float* weight, int64_t dimensions,
                    int64_t count, float* out);
  // In-place Cholesky of the lower triangle, row-major with `stride`; false when not positive definite.
  bool (*cholesky)(double* matrix, int64_t size, int64_t stride);
};

constexpr int64_t deletion_scratch(int64_t size) { return (size * (size + 1) / 2 + size) * kLanes; }
constexpr int64_t parameter_scratch(int64_t parameters, int64_t packed_stride, int64_t moment_stride) {
  return (parameters * (parameters + 1) / 2 + parameters + packed_stride + moment_stride) * kLanes + 8;
}

// The best for this processor; TESSERA_EXPLAIN_LANES=baseline forces the portable one.
const Lanes& lanes();
const Lanes& baseline_lanes();
const Lanes* avx2_lanes();  // null when this build or processor has none

}  // namespace tessera::explain
