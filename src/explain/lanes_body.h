// Included by lanes.cpp and lanes_avx2.cpp inside an unnamed namespace; no templates of other libraries here, so that
// code compiled for AVX2 is never shared with the baseline.

typedef double Quad __attribute__((vector_size(32), aligned(8)));

// Eight lanes as two registers; the compiler keeps both in registers, which it does not do for one vector of 64 bytes.
struct Vector {
  Quad low, high;
  double* lane() { return reinterpret_cast<double*>(this); }
  Vector& operator+=(const Vector& other) {
    low += other.low;
    high += other.high;
    return *this;
  }
  Vector& operator-=(const Vector& other) {
    low -= other.low;
    high -= other.high;
    return *this;
  }
};

inline Vector operator*(const Vector& a, const Vector& b) { return {a.low * b.low, a.high * b.high}; }
inline Vector operator*(const Vector& a, double b) { return {a.low * b, a.high * b}; }
inline Vector zero() { return {Quad{}, Quad{}}; }

// Cholesky of packed lower triangles, one matrix per lane, fused with forward and backward substitution of x.
// Returns the lanes that are not positive definite relative to `floor`.
inline unsigned solve_packed(Vector* packed, Vector* x, int64_t size, double floor) {
  unsigned failed = 0;
  for (int64_t i = 0; i < size; ++i) {
    Vector* row = packed + i * (i + 1) / 2;
    for (int64_t j = 0; j < i; ++j) {
      const Vector* other = packed + j * (j + 1) / 2;
      Vector sum = row[j], second = zero();
      int64_t k = 0;
      for (; k + 1 < j; k += 2) {
        sum -= row[k] * other[k];
        second -= row[k + 1] * other[k + 1];
      }
      if (k < j) sum -= row[k] * other[k];
      sum += second;
      row[j] = sum * other[j];  // the diagonal holds reciprocals
    }
    Vector pivot = row[i];
    for (int64_t k = 0; k < i; ++k) pivot -= row[k] * row[k];
    for (int lane = 0; lane < kLanes; ++lane) {
      double& value = pivot.lane()[lane];
      if (!(value > floor)) {
        failed |= 1U << lane;
        value = 1;
      }
      value = 1 / __builtin_sqrt(value);
    }
    row[i] = pivot;
    Vector sum = x[i];
    for (int64_t k = 0; k < i; ++k) sum -= row[k] * x[k];
    x[i] = sum * row[i];
  }
  for (int64_t i = size - 1; i >= 0; --i) {
    const Vector value = x[i] * packed[i * (i + 1) / 2 + i];
    x[i] = value;
    for (int64_t k = 0; k < i; ++k) x[k] -= packed[i * (i + 1) / 2 + k] * value;
  }
  return failed;
}

unsigned delete_rows(const DeletionProblem& problem, const int32_t* sets, int64_t size, double* out, double* scratch) {
  Vector* packed = reinterpret_cast<Vector*>(scratch);
  Vector* x = packed + size * (size + 1) / 2;
  Vector scale = zero();
  for (int64_t i = 0; i < size; ++i) {
    const int32_t* row = sets + i * kLanes;
    for (int64_t j = 0; j <= i; ++j) {
      const int32_t* column = sets + j * kLanes;
      Vector value = zero();
      for (int lane = 0; lane < kLanes; ++lane)
        value.lane()[lane] = problem.matrix[row[lane] * problem.rows + column[lane]];
      packed[i * (i + 1) / 2 + j] = value;
      if (i == j) scale += value;
    }
    for (int lane = 0; lane < kLanes; ++lane) x[i].lane()[lane] = problem.residual[row[lane]];
  }
  // Relative to the mean diagonal: the matrix I - H has diagonals in [0, 1], an inverse Gram matrix any size.
  double largest = 0;
  for (int lane = 0; lane < kLanes; ++lane) largest = scale.lane()[lane] > largest ? scale.lane()[lane] : largest;
  const unsigned failed = solve_packed(packed, x, size, 1e-11 * largest / static_cast<double>(size > 0 ? size : 1));
  for (int64_t f = 0; f < problem.functionals; ++f) {
    const double* influence = problem.influence + f * problem.rows;
    Vector sum = zero();
    for (int64_t i = 0; i < size; ++i) {
      Vector value = zero();
      for (int lane = 0; lane < kLanes; ++lane) value.lane()[lane] = influence[sets[i * kLanes + lane]];
      sum += value * x[i];
    }
    for (int lane = 0; lane < kLanes; ++lane) out[f * kLanes + lane] = sum.lane()[lane];
  }
  return failed;
}

// One block of `Quads` registers of the sums, all lanes: the block's part of the table stays in the nearest cache.
template <int Quads>
inline void add_block(const double* table, int64_t stride, const int32_t* sets, int64_t size, double* sums) {
  for (int lane = 0; lane < kLanes; ++lane) {
    Quad sum[Quads] = {};
    for (int64_t i = 0; i < size; ++i) {
      const double* row = table + sets[i * kLanes + lane] * stride;
      for (int q = 0; q < Quads; ++q) sum[q] += *reinterpret_cast<const Quad*>(row + 4 * q);
    }
    for (int q = 0; q < Quads; ++q) *reinterpret_cast<Quad*>(sums + lane * stride + 4 * q) = sum[q];
  }
}

// sums[lane] = sum of the lane's rows; stride is a multiple of 4.
inline void add_rows(const double* table, int64_t stride, const int32_t* sets, int64_t size, double* sums) {
  int64_t k = 0;
  for (; k + 32 <= stride; k += 32) add_block<8>(table + k, stride, sets, size, sums + k);
  for (; k + 8 <= stride; k += 8) add_block<2>(table + k, stride, sets, size, sums + k);
  for (; k < stride; k += 4) add_block<1>(table + k, stride, sets, size, sums + k);
}

unsigned delete_by_parameters(const ParameterProblem& problem, const int32_t* sets, int64_t size, double* out,
                              double* scratch) {
  const int64_t p = problem.parameters;
  const int64_t triangle = p * (p + 1) / 2;
  Vector* packed = reinterpret_cast<Vector*>(scratch);
  Vector* x = packed + triangle;
  double* sums = scratch + (triangle + p) * kLanes;
  double* moments = sums + problem.packed_stride * kLanes;
  add_rows(problem.packed, problem.packed_stride, sets, size, sums);
  add_rows(problem.moment, problem.moment_stride, sets, size, moments);
  for (int64_t k = 0; k < triangle; ++k) {
    Vector value = zero();
    for (int lane = 0; lane < kLanes; ++lane) value.lane()[lane] = -sums[lane * problem.packed_stride + k];
    packed[k] = value;
  }
  for (int64_t i = 0; i < p; ++i) {
    for (int lane = 0; lane < kLanes; ++lane) packed[i * (i + 1) / 2 + i].lane()[lane] += 1.0;
    for (int lane = 0; lane < kLanes; ++lane) x[i].lane()[lane] = moments[lane * problem.moment_stride + i];
  }
  const unsigned failed = solve_packed(packed, x, p, 1e-11);
  for (int64_t f = 0; f < problem.functionals; ++f) {
    Vector sum = zero();
    for (int64_t i = 0; i < p; ++i) sum += x[i] * problem.functional[f * p + i];
    for (int lane = 0; lane < kLanes; ++lane) out[f * kLanes + lane] = sum.lane()[lane];
  }
  return failed;
}

void distances(const float* const* columns, const float* centre, const float* weight, int64_t dimensions, int64_t count,
               float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = 0;
  int64_t j = 0;
  for (; j + 1 < dimensions; j += 2) {
    const float* __restrict first = columns[j];
    const float* __restrict second = columns[j + 1];
    const float c0 = centre[j], c1 = centre[j + 1], w0 = weight[j], w1 = weight[j + 1];
    for (int64_t i = 0; i < count; ++i) {
      const float a = first[i] - c0, b = second[i] - c1;
      out[i] += w0 * a * a + w1 * b * b;
    }
  }
  for (; j < dimensions; ++j) {
    const float* __restrict column = columns[j];
    for (int64_t i = 0; i < count; ++i) {
      const float a = column[i] - centre[j];
      out[i] += weight[j] * a * a;
    }
  }
}

// rows[i][j..] -= sum_k left[i][k] right[j][k] for a panel of up to 4 x 4 rows: the work of a blocked Cholesky.
inline double dot(const double* a, const double* b, int64_t count) {
  Quad s0{}, s1{};
  int64_t k = 0;
  for (; k + 8 <= count; k += 8) {
    s0 += *reinterpret_cast<const Quad*>(a + k) * *reinterpret_cast<const Quad*>(b + k);
    s1 += *reinterpret_cast<const Quad*>(a + k + 4) * *reinterpret_cast<const Quad*>(b + k + 4);
  }
  s0 += s1;
  double sum = (s0[0] + s0[1]) + (s0[2] + s0[3]);
  for (; k < count; ++k) sum += a[k] * b[k];
  return sum;
}

inline void dot4x2(const double* const* a, const double* b0, const double* b1, int64_t count, double* out) {
  Quad s[8] = {};
  int64_t k = 0;
  for (; k + 4 <= count; k += 4) {
    const Quad x = *reinterpret_cast<const Quad*>(b0 + k);
    const Quad y = *reinterpret_cast<const Quad*>(b1 + k);
    for (int i = 0; i < 4; ++i) {
      const Quad v = *reinterpret_cast<const Quad*>(a[i] + k);
      s[i] += v * x;
      s[i + 4] += v * y;
    }
  }
  for (int i = 0; i < 8; ++i) out[i] = (s[i][0] + s[i][1]) + (s[i][2] + s[i][3]);
  for (; k < count; ++k) {
    for (int i = 0; i < 4; ++i) {
      out[i] += a[i][k] * b0[k];
      out[i + 4] += a[i][k] * b1[k];
    }
  }
}

bool cholesky(double* matrix, int64_t size, int64_t stride) {
  // Left-looking by pairs of columns: every entry is one dot product of two finished rows.
  for (int64_t j = 0; j < size; j += 2) {
    double* row0 = matrix + j * stride;
    const double pivot0 = row0[j] - dot(row0, row0, j);
    if (!(pivot0 > 0)) return false;
    row0[j] = __builtin_sqrt(pivot0);
    if (j + 1 == size) break;
    double* row1 = row0 + stride;
    row1[j] = (row1[j] - dot(row1, row0, j)) / row0[j];
    const double pivot1 = row1[j + 1] - dot(row1, row1, j + 1);
    if (!(pivot1 > 0)) return false;
    row1[j + 1] = __builtin_sqrt(pivot1);
    const double inverse0 = 1 / row0[j], inverse1 = 1 / row1[j + 1], below = row1[j];
    int64_t i = j + 2;
    for (; i + 4 <= size; i += 4) {
      double* rows[4] = {matrix + i * stride, matrix + (i + 1) * stride, matrix + (i + 2) * stride,
                         matrix + (i + 3) * stride};
      double sums[8];
      dot4x2(rows, row0, row1, j, sums);
      for (int r = 0; r < 4; ++r) {
        const double first = (rows[r][j] - sums[r]) * inverse0;
        rows[r][j] = first;
        rows[r][j + 1] = (rows[r][j + 1] - sums[r + 4] - first * below) * inverse1;
      }
    }
    for (; i < size; ++i) {
      double* row = matrix + i * stride;
      row[j] = (row[j] - dot(row, row0, j)) * inverse0;
      row[j + 1] = (row[j + 1] - dot(row, row1, j + 1)) * inverse1;
    }
  }
  return true;
}
