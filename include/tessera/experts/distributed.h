// Training over several processes or machines. Rows never leave the process that read them: names and counts of
// classes, models and error messages are all that moves.
//
//   const auto ranks = start_ranks();                          // under mpirun; one process works as well
//   const Dataset local = ...;                                 // this rank's rows
//   const Ensemble ensemble = fit_distributed(*ranks, local, design, *learner, {.folder = "model"});
//
// Each expert is trained by one rank: one that holds rows of all classes of its set, the one with the most such rows,
// the least loaded where several are equal. When every rank reads the same data this is plain division of labour, and
// the experts are bit for bit those of fit_experts. Models go to rank 0, which alone writes the folder.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tessera/experts/fit.h"

namespace tessera::experts {

// The processes of one run. Calls are collective: every rank makes the same ones in the same order.
class Ranks {
 public:
  virtual ~Ranks() = default;
  virtual int rank() const { return 0; }
  virtual int size() const { return 1; }
  // What each rank gave, on rank 0; empty elsewhere. At most 2 GiB in all.
  virtual std::vector<std::string> gather(const std::string& bytes) { return {bytes}; }
  // What rank 0 gave, everywhere.
  virtual std::string broadcast(const std::string& bytes) { return bytes; }
};

// The ranks of this run: those of mpirun when the library was built with MPI, else this process alone. Call it once,
// from the main thread, and keep the object to the end. Throws Error(unsupported) under mpirun -n 2 or more without
// MPI.
std::unique_ptr<Ranks> start_ranks();
bool built_with_mpi();

// Union of the ranks' class names in the order that read_dataset gives them; the same on every rank.
std::vector<std::string> agree_on_classes(Ranks& ranks, const std::vector<std::string>& local);

// Which rank trains each expert, by rows[rank][class]. Throws Error(invalid_argument) naming the first expert of whose
// classes no rank holds them all.
std::vector<int> assign_experts(const Design& design, const std::vector<std::vector<int64_t>>& rows);

// `local` of every rank has the same classes. The ensemble is complete on rank 0 and empty elsewhere. Finished experts
// are kept after every round of one expert per rank; the same command resumes. options.folder must not be empty, and
// options.done is called on rank 0. Throws on every rank when one fails, the message naming the rank.
Ensemble fit_distributed(Ranks& ranks, const Dataset& local, const Design& design, const Learner& learner,
                         const FitOptions& options);

}  // namespace tessera::experts
