// The probe's wgmma kernel on the model of the GPU's instructions, against its definition in fp64.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "attention/cuda/probe_hopper.cuh"

namespace tessera::attention::cuda {
namespace {

constexpr int kHeads = 2;  // a block of the model has two warpgroups for them
constexpr int kDim = 64;

uint16_t to_bits(float value) { return __bfloat16_as_ushort(__float2bfloat16(value)); }
double to_double(uint16_t bits) { return __bfloat162float(__ushort_as_bfloat16(bits)); }

// Two query heads over one KV head; as many query rows as keys.
class Emulated {
 public:
  Emulated(int rows, ProbeKind kind) : rows_(rows) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    for (int i = 0; i < rows * kHeads * kDim; ++i) queries_.push_back(to_bits(2 * normal(random)));
    for (int i = 0; i < rows * kDim; ++i) keys_.push_back(to_bits(normal(random)));
    probe_.queries = queries_.data();
    probe_.keys = keys_.data();
    probe_.query_stride[0] = kHeads * kDim;
    probe_.query_stride[1] = probe_.key_stride[0] = probe_.key_stride[1] = kDim;
    probe_.query_heads = kHeads;
    probe_.kv_heads = 1;
    probe_.head_dim = kDim;
    probe_.scale = 0.125F;
    probe_.key_rows = rows;
    if (kind == ProbeKind::lines) {
      set_last_rows(probe_, 0, rows, 0);
    } else {
      set_spread_rows(probe_, 0, rows, 0);
    }
    set_splits(probe_, 2);
    const auto masses = static_cast<size_t>(kHeads * rows);
    partial_.assign(static_cast<size_t>(kHeads * probe_.splits * kProbeRows * 2), NAN);
    for (auto* mass : {&column_mass, &column_gain}) mass->assign(masses, NAN);
    diagonal_mass.assign(masses, 0);
    tile_mass.assign(static_cast<size_t>(kHeads * kProbeGroups * probe_.key_tiles()), NAN);
    probe_.partial = partial_.data();
    probe_.column_mass = column_mass.data();
    probe_.column_gain = column_gain.data();
    probe_.diagonal_mass = diagonal_mass.data();
    probe_.tile_mass = tile_mass.data();
    pass<Pass::statistics>();
    if (kind == ProbeKind::lines) {
      pass<Pass::lines>();
    } else {
      pass<Pass::spread>();
    }
  }

  // Softmax weights of a probe row.
  std::vector<double> weights(int head, int slot) const {
    std::vector<double> row(static_cast<size_t>(rows_));
    double sum = 0;
    for (int k = 0; k <= probe_.own[slot]; ++k) {
      double dot = 0;
      for (int c = 0; c < kDim; ++c) {
        dot += to_double(queries_[static_cast<size_t>((probe_.rows[slot] * kHeads + head) * kDim + c)]) *
               to_double(keys_[static_cast<size_t>(k * kDim + c)]);
      }
      row[static_cast<size_t>(k)] = std::exp(dot * double{probe_.scale});
      sum += row[static_cast<size_t>(k)];
    }
    for (double& w : row) w /= sum;
    return row;
  }

  const Probe& probe() const { return probe_; }
  std::vector<float> column_mass, column_gain, diagonal_mass, tile_mass;

 private:
  template <Pass kPass>
  void pass() {
    const EmulatedMap from{keys_.data(), rows_, 1, kDim, kDim, kDim, kProbeKeys};
    CUtensorMap map = {};
    std::memcpy(&map, &from, sizeof(from));
    for (unsigned split = 0; split < static_cast<unsigned>(probe_.splits); ++split) {
      blockIdx = {split, 0};
      run_block(kBlockThreads, [&] { hopper_probe_kernel<__nv_bfloat16, kDim, kPass>(probe_, map); });
    }
    blockIdx = {0, 0};
  }

  int rows_;
  std::vector<uint16_t> queries_, keys_;
  std::vector<float> partial_;
  Probe probe_;
};

void expect_close(const std::vector<float>& got, int head, const std::vector<double>& expected, const char* what) {
  for (size_t i = 0; i < expected.size(); ++i) {
    const double value = got[static_cast<size_t>(head) * expected.size() + i];
    ASSERT_NEAR(value, expected[i], 1e-5 + 1e-4 * expected[i]) << what << ' ' << head << ' ' << i;
  }
}

TEST(ProbeEmulation, SpreadRows) {
  for (const int rows : {700, 1500}) {
    const Emulated run(rows, ProbeKind::spread);
    ASSERT_GT(run.probe().splits, 1);
    const auto keys = static_cast<size_t>(rows);
    const auto tiles = static_cast<size_t>(run.probe().key_tiles());
    for (int head = 0; head < kHeads; ++head) {
      std::vector<double> odd(keys), even(keys), top(keys), tile(kProbeGroups * tiles);
      for (int slot = 0; slot < run.probe().row_count; ++slot) {
        const std::vector<double> row = run.weights(head, slot);
        const auto group = static_cast<size_t>(slot / 4);
        for (size_t k = 0; k < keys; ++k) {
          (group % 2 == 1 ? odd : even)[k] += row[k];
          if (group % 2 == 0) top[k] = std::max(top[k], row[k]);
          tile[group * tiles + k / kProbeTile] += row[k];
        }
      }
      for (size_t k = 0; k < keys; ++k) even[k] -= top[k];
      expect_close(run.column_mass, head, odd, "column mass");
      expect_close(run.column_gain, head, even, "column gain");
      expect_close(run.tile_mass, head, tile, "tile mass");
    }
  }
}

TEST(ProbeEmulation, LastRows) {
  for (const int rows : {40, 777}) {
    const Emulated run(rows, ProbeKind::lines);
    const auto keys = static_cast<size_t>(rows);
    for (int head = 0; head < kHeads; ++head) {
      std::vector<double> columns(keys), diagonals(keys);
      for (int slot = 0; slot < run.probe().row_count; ++slot) {
        const std::vector<double> row = run.weights(head, slot);
        const int own = run.probe().own[slot];
        for (int k = 0; k <= own; ++k) {
          columns[static_cast<size_t>(k)] += row[static_cast<size_t>(k)];
          diagonals[static_cast<size_t>(own - k)] += row[static_cast<size_t>(k)];
        }
      }
      expect_close(run.column_mass, head, columns, "column mass");
      expect_close(run.diagonal_mass, head, diagonals, "diagonal mass");
    }
  }
}

}  // namespace
}  // namespace tessera::attention::cuda
