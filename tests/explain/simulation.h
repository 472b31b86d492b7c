// The simulation of the published experiments, reproducible in any language: SplitMix64, f(u, v, a, b) = sin(a u) cos(b
// v) tan(1 / (1 + (u - v)^2)). Categories a and b take the values 1, 2, 3 and have codes 0, 1, 2 here.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "tessera/explain/explain.h"

namespace tessera::explain {

struct Simulation {
  std::vector<double> inputs;   // [rows, 4]: u, v, code of a, code of b
  std::vector<double> outputs;  // [rows]
  std::vector<double> query;    // [4]
  std::vector<Feature> features;

  static double truth(const double* x) {
    const double gap = x[0] - x[1];
    return std::sin((x[2] + 1) * x[0]) * std::cos((x[3] + 1) * x[1]) * std::tan(1 / (1 + gap * gap));
  }

  // Partial derivative with respect to u (0) or v (1).
  static double slope(const double* x, int which) {
    const double a = x[2] + 1, b = x[3] + 1, gap = x[0] - x[1];
    const double bump = 1 / (1 + gap * gap), t = std::tan(bump);
    const double bend = (1 + t * t) * -2 * gap * bump * bump;  // d tan / d gap
    const double wave = std::sin(a * x[0]) * std::cos(b * x[1]);
    if (which == 0) return a * std::cos(a * x[0]) * std::cos(b * x[1]) * t + wave * bend;
    return -b * std::sin(a * x[0]) * std::sin(b * x[1]) * t - wave * bend;
  }

  Simulation(uint64_t seed, int64_t rows) {
    uint64_t state = seed;
    const auto uniform = [&state] {
      state += 0x9E3779B97F4A7C15ULL;
      uint64_t z = state;
      z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
      z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
      return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1.0p-53;
    };
    const auto draw = [&](std::vector<double>& out) {
      for (int i = 0; i < 2; ++i) out.push_back(-5 + 10 * uniform());
      for (int i = 0; i < 2; ++i) out.push_back(std::floor(3 * uniform()));
    };
    for (int64_t i = 0; i < rows; ++i) {
      draw(inputs);
      outputs.push_back(truth(inputs.data() + 4 * i));
    }
    draw(query);
    const std::vector<std::string> levels = {"1", "2", "3"};
    features = {{"u", ColumnKind::continuous, {}, {}, {}},
                {"v", ColumnKind::continuous, {}, {}, {}},
                {"a", ColumnKind::categorical, levels, 0, {}},
                {"b", ColumnKind::categorical, levels, 0, {}}};
  }

  TableView view() const { return {inputs.data(), nullptr, static_cast<int64_t>(outputs.size()), 4}; }
};

}  // namespace tessera::explain
