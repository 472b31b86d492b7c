// A pool of worker threads for data-parallel loops.
//
// The caller takes part in the work. Idle workers spin briefly, then yield, then sleep: users' machines are often shared,
// and a barrier that spins for a descheduled partner is slower than no parallelism.
//
//   pool.parallel_for(0, rows, 16, [&](int64_t begin, int64_t end, int worker) { ... });
//
// Chunks are handed out dynamically in index order; which worker gets which chunk is not deterministic, so a body must not
// let its result depend on `worker` (scratch space only). Nested calls run on the calling thread. An exception thrown by
// the body is rethrown in the caller after all chunks ended. Default size: TESSERA_THREADS, or the CPUs this process may
// run on.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace tessera {

class ThreadPool {
 public:
  // threads >= 1 counts the caller: 1 means no extra thread.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  using Body = std::function<void(int64_t begin, int64_t end, int worker)>;

  // Runs body over [begin, end) in chunks of at most `grain` indices (>= 1). Returns when all are done.
  void parallel_for(int64_t begin, int64_t end, int64_t grain, const Body& body);

  // The pool used where none is given. Its size can be set once before first use by set_default_threads.
  static ThreadPool& shared();
  static void set_default_threads(int threads);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tessera
