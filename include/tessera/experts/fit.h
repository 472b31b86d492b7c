// Training the experts of a design and asking them.
//
//   const Ensemble ensemble = fit_experts(train, design, *learner, {.folder = "letter-model", .seed = 1});
//   const Answers answers = ask(ensemble, test.values, test.rows, {});
//   const Combination result = combine(ensemble.design, answers);
//
// Experts are trained side by side, one thread each; expert j draws its random numbers from stream j of the seed, so
// the result depends on neither the thread count nor the order. Each finished expert is a file of its own, written in
// one rename; a killed run continues with the experts that are missing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tessera/base/thread_pool.h"
#include "tessera/experts/answers.h"
#include "tessera/experts/dataset.h"
#include "tessera/experts/design.h"
#include "tessera/experts/learner.h"

namespace tessera::experts {

struct Ensemble {
  Design design;
  std::vector<std::string> classes;                        // names, [design.classes]
  std::vector<std::shared_ptr<const Classifier>> experts;  // one per set
};

struct FitOptions {
  std::filesystem::path folder = {};             // where experts are kept; empty: in memory only
  uint64_t seed = 0;                             // of everything random
  ThreadPool* pool = nullptr;                    // null: ThreadPool::shared()
  std::function<void()> claimed = {};            // called once the folder belongs to this fit, before any training
  std::function<void(size_t expert)> done = {};  // called (one at a time) after each expert that was trained
};

// The checks of fit_experts alone; claims `folder` for these settings.
void check_fit(const Dataset& data, const Design& design, const Learner& learner, const FitOptions& options);

// Throws Error(invalid_argument) when data and design disagree on the number of classes or a class of a set has no row;
// Error(invalid_argument) when `folder` holds experts of other settings; Error(io) when it cannot be written;
// Error(interrupted) on Ctrl-C, with finished experts kept.
Ensemble fit_experts(const Dataset& data, const Design& design, const Learner& learner, const FitOptions& options);

// The experts that fit_experts left in `folder`. Throws Error(not_found) when the folder holds no experts or the fit
// did not finish, Error(bad_file) for a damaged file.
Ensemble load_experts(const std::filesystem::path& folder);

// Probabilities and evidence of every expert for `rows` ([count, features]): experts side by side. O(count * sum of
// expert costs). Throws Error(invalid_argument) when the number of features differs.
Answers ask(const Ensemble& ensemble, std::span<const float> rows, int64_t count, ThreadPool* pool = nullptr);

}  // namespace tessera::experts
