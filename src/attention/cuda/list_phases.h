// Where in its list each item begins, so that blocks that run together read the same keys at the same time.
//
// A list may be walked from any unit, round and round. The blocks' order of work is known beforehand well enough: each
// takes the next item when it ends one, and an item takes its units and a little more. So a block of threads plays the
// schedule through, in time counted in units, and keeps the phase of the walk, the mean over the running items; an item
// begins at the phase of its time. The phases are part of the plan, not of the moment, so repeats agree bit by bit.
// tools/gpu/cache_model.cpp tells what it is worth.
#pragma once

#include "attention/cuda/problem.h"
#include "attention/cuda/simt.h"

namespace tessera::attention::cuda {

constexpr int kPhaseThreads = 256;     // one for each block that attends: at most so many
constexpr int kPhaseItems = 2048;      // units of items that shared memory holds at a time
constexpr uint32_t kItemOverhead = 3;  // units of time between two items of a block
using PhaseBlock = Block<kPhaseThreads>;

struct PhaseShared {
  struct alignas(16) Four {
    uint32_t key[4];
  };
  // Per block, twice, for now and next: the time when it is free (in units, below 2^24), then its number, 8 bits.
  Four free_at[2][kPhaseThreads / 4];
  uint32_t speed[kPhaseThreads];  // of the item that a block is at: 2^23 / units
  uint32_t units[kPhaseItems];
  // Three times, for now, next and cleared: sum of the speeds; the complement of the first of the keys.
  uint32_t speeds[3], soonest[3];
  uint32_t phase[2], time[2];  // a circle is 2^32
};

// Items of a step: those of the blocks that are free first. Half of the blocks are as good as one at a time.
TESSERA_SIMT inline int32_t phase_step(int32_t taken, int32_t workers) {
  return taken == 0 ? workers : (workers + 1) / 2;
}

// Sets items[i].first for the order in which `workers` (at most kPhaseThreads) blocks take them.
TESSERA_SIMT inline void plan_phases(const PhaseBlock& block, WorkItem* items, int32_t count, int32_t workers,
                                     PhaseShared& shared) {
  const auto key = [&](int side, int at) -> uint32_t& { return shared.free_at[side][at / 4].key[at % 4]; };
  block.each([&](int thread) {
    key(0, thread) = key(1, thread) = thread < workers ? static_cast<uint32_t>(thread) : ~0U;
    shared.speed[thread] = 0;
    if (thread >= 3) return;
    shared.speeds[thread] = 0;
    shared.soonest[thread] = 0;
    if (thread < 2) shared.phase[thread] = shared.time[thread] = 0;
  });
  // A block that is at an item of n units turns by 2^23 / n; the mean of them, as 2^32 parts of a circle, by this.
  const uint32_t inverse = ~0U / static_cast<uint32_t>(workers);
  const auto mean_turn = [&](uint32_t speeds) { return static_cast<uint32_t>(uint64_t{speeds} * inverse >> 23); };
  int32_t loaded = 0;  // items whose units are in shared memory end here
  int32_t first_loaded = 0;
  int32_t taken = 0;
  TESSERA_ROLLED
  for (int32_t step = 0; taken < count; ++step) {
    const int32_t batch = phase_step(taken, workers);
    if (taken + batch > loaded && loaded < count) {
      first_loaded = taken;
      loaded = taken + kPhaseItems < count ? taken + kPhaseItems : count;
      block.each([&](int thread) {
        for (int32_t i = first_loaded + thread; i < loaded; i += kPhaseThreads) {
          shared.units[i - first_loaded] = static_cast<uint32_t>(items[i].count);
        }
      });
    }
    const int now = step % 2;
    const int next = 1 - now;
    block.each([&](int thread) {
      if (thread == 0) shared.speeds[(step + 2) % 3] = shared.soonest[(step + 2) % 3] = 0;
      const uint32_t mine = key(now, thread);
      int32_t rank = 0;
      TESSERA_BATCHED
      for (int i = 0; i < (workers + 3) / 4; ++i) {
        const PhaseShared::Four four = shared.free_at[now][i];
        for (uint32_t other : four.key) rank += other < mine;
      }
      const uint32_t turn = mean_turn(shared.speeds[step % 3]);
      const uint32_t time = step == 0 ? 0 : ~shared.soonest[step % 3] >> 8;
      const uint32_t phase = shared.phase[now] + (time - shared.time[now]) * turn;
      if (thread == 0) {
        shared.phase[next] = phase;
        shared.time[next] = time;
      }
      uint32_t free_at = mine;
      const int32_t item = taken + rank;
      if (thread < workers && rank < batch && item < count) {
        const uint32_t units = shared.units[item - first_loaded];
        const uint32_t begin = phase + ((mine >> 8) - time) * turn;
        items[item].first = static_cast<int32_t>(uint64_t{begin} * units >> 32);
        shared.speed[thread] = (1U << 23) / (units > 0 ? units : 1);
        free_at += (units + kItemOverhead) << 8;
      }
      key(next, thread) = free_at;
      PhaseBlock::add_of_all(&shared.speeds[(step + 1) % 3], shared.speed[thread]);
      PhaseBlock::highest_of_all(&shared.soonest[(step + 1) % 3], ~free_at);
    });
    taken += batch;
  }
}

}  // namespace tessera::attention::cuda
