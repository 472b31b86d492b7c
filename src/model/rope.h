// Rotary position embeddings (Su et al., 2021): each pair (a, b) of a head turns by position * frequency,
//   a' = a cos - b sin,   b' = a sin + b cos,   frequency_i = theta^(-2 i / head_dim), scaled as RopeConfig says.
//
//   const RopeFrequencies frequencies(config.rope, config.head_dim);
//   const RopeAngles angles = frequencies.angles(first_position, n);
//   angles.rotate(queries);   // [n, heads, head_dim] f32, in place
//
// Angles are computed and reduced in double precision: at position 1e6 a float angle is off by up to 0.02 rad.
#pragma once

#include <cstdint>
#include <vector>

#include "tessera/base/thread_pool.h"
#include "tessera/model/config.h"
#include "tessera/tensor/tensor.h"

namespace tessera::model {

// Sines and cosines of consecutive positions.
class RopeAngles {
 public:
  // Rotates x [n, heads, head_dim] f32 in place; row i is position first + i of the call that made the angles.
  void rotate(Tensor& x, ThreadPool& pool) const;

 private:
  friend class RopeFrequencies;
  Tensor cosines_;  // [n, head_dim / 2] f32
  Tensor sines_;    // [n, head_dim / 2] f32
  RopeLayout layout_ = RopeLayout::half_split;
};

class RopeFrequencies {
 public:
  RopeFrequencies(const RopeConfig& config, int64_t head_dim);

  const std::vector<double>& radians_per_position() const { return frequencies_; }  // [head_dim / 2]
  RopeAngles angles(int64_t first_position, int64_t n, ThreadPool& pool) const;

 private:
  std::vector<double> frequencies_;  // [head_dim / 2]
  RopeLayout layout_;
};

}  // namespace tessera::model
