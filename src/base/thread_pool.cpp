#include "tessera/base/thread_pool.h"

#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "tessera/base/error.h"

namespace tessera {
namespace {

constexpr int kSpins = 2000;   // about 2 microseconds of pause instructions before the first yield
constexpr int kYields = 50;    // then this many sched_yield calls before sleeping

thread_local bool inside_pool = false;
thread_local int current_worker = 0;  // a nested loop keeps the scratch index of its thread

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

int usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    const int count = CPU_COUNT(&set);
    if (count > 0) return count;
  }
  return std::max(1U, std::thread::hardware_concurrency());
}

std::atomic<int> requested_threads{0};

int default_threads() {
  if (const int requested = requested_threads.load(); requested > 0) return requested;
  if (const char* text = std::getenv("TESSERA_THREADS"); text != nullptr) {
    const int value = std::atoi(text);
    if (value >= 1) return value;
    throw Error(ErrorCode::invalid_argument, "TESSERA_THREADS: expected a whole number of at least 1, found '{}'", text);
  }
  return usable_cpus();
}

}  // namespace

struct ThreadPool::State {
  std::vector<std::thread> workers;
  std::mutex caller_mutex;  // one parallel_for at a time

  // The current job. Published by incrementing `generation` with release order.
  const Body* body = nullptr;
  int64_t end = 0;
  int64_t grain = 1;
  std::atomic<int64_t> next{0};
  std::atomic<int> running{0};
  std::atomic<uint64_t> generation{0};
  std::atomic<bool> stop{false};
  std::exception_ptr failure;
  std::mutex failure_mutex;

  std::mutex sleep_mutex;
  std::condition_variable wake;

  void work(int worker) {
    try {
      for (;;) {
        const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
        if (begin >= end) return;
        (*body)(begin, std::min(begin + grain, end), worker);
      }
    } catch (...) {
      next.store(end, std::memory_order_relaxed);
      const std::lock_guard lock(failure_mutex);
      if (!failure) failure = std::current_exception();
    }
  }

  // Waits until generation differs from seen; returns false when the pool stops.
  bool await(uint64_t seen) {
    for (int i = 0; i < kSpins; ++i) {
      if (generation.load(std::memory_order_acquire) != seen) return !stop.load();
      pause();
    }
    for (int i = 0; i < kYields; ++i) {
      if (generation.load(std::memory_order_acquire) != seen) return !stop.load();
      sched_yield();
    }
    std::unique_lock lock(sleep_mutex);
    wake.wait(lock, [&] { return generation.load(std::memory_order_acquire) != seen; });
    return !stop.load();
  }

  void worker_loop(int worker) {
    inside_pool = true;
    current_worker = worker;
    uint64_t seen = 0;
    while (await(seen)) {
      seen = generation.load(std::memory_order_acquire);
      work(worker);
      running.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  void publish() {
    {
      const std::lock_guard lock(sleep_mutex);
      generation.fetch_add(1, std::memory_order_acq_rel);
    }
    wake.notify_all();
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  if (threads < 1) throw Error(ErrorCode::invalid_argument, "threads: expected at least 1, found {}", threads);
  for (int worker = 1; worker < threads; ++worker) {
    state_->workers.emplace_back([state = state_.get(), worker] { state->worker_loop(worker); });
  }
}

ThreadPool::~ThreadPool() {
  state_->stop.store(true);
  state_->publish();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::parallel_for(int64_t begin, int64_t end, int64_t grain, const Body& body) {
  TESSERA_ASSERT(grain >= 1);
  if (begin >= end) return;
  if (inside_pool || state_->workers.empty() || end - begin <= grain) {
    for (int64_t at = begin; at < end; at += grain) body(at, std::min(at + grain, end), current_worker);
    return;
  }
  const std::lock_guard lock(state_->caller_mutex);
  State& state = *state_;
  state.body = &body;
  state.end = end;
  state.grain = grain;
  state.failure = nullptr;
  state.next.store(begin, std::memory_order_relaxed);
  state.running.store(static_cast<int>(state.workers.size()), std::memory_order_relaxed);
  state.publish();
  inside_pool = true;
  state.work(0);
  inside_pool = false;
  for (int spins = 0; state.running.load(std::memory_order_acquire) != 0; ++spins) {
    spins < kSpins ? pause() : static_cast<void>(sched_yield());
  }
  if (state.failure) std::rethrow_exception(state.failure);
}

ThreadPool& ThreadPool::shared() {
  static ThreadPool pool(default_threads());
  return pool;
}

void ThreadPool::set_default_threads(int threads) {
  if (threads < 1) throw Error(ErrorCode::invalid_argument, "threads: expected at least 1, found {}", threads);
  requested_threads.store(threads);
}

}  // namespace tessera
