#include "tessera/experts/fit.h"

#include <fmt/format.h>

#include <mutex>
#include <nlohmann/json.hpp>

#include "experts/fit_folder.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"
#include "tessera/base/random.h"

namespace tessera::experts {
namespace {

void check(const Dataset& data, const Design& design) {
  check_design(design);
  if (static_cast<int>(data.classes.size()) != design.classes) {
    throw Error(ErrorCode::invalid_argument, "the data has {} classes, the design {}; give a design of as many classes",
                data.classes.size(), design.classes);
  }
  std::vector<bool> seen(data.classes.size(), false);
  for (const int32_t label : data.labels) seen[static_cast<size_t>(label)] = true;
  for (size_t j = 0; j < design.sets.size(); ++j) {
    for (const int item : design.sets[j]) {
      if (!seen[static_cast<size_t>(item)]) {
        throw Error(ErrorCode::invalid_argument,
                    "the training data has no row of class '{}', which expert {} must know",
                    data.classes[static_cast<size_t>(item)], j);
      }
    }
  }
}

}  // namespace

std::filesystem::path expert_path(const std::filesystem::path& folder, size_t expert) {
  return folder / fmt::format("expert-{:05}.bin", expert);
}

uint64_t expert_seed(uint64_t seed, size_t expert) { return Random(seed).split(expert).bits(); }

void claim_folder(const Dataset& data, const Design& design, const Learner& learner, const FitOptions& options) {
  const nlohmann::json settings = {
      {"format", "tessera-experts"}, {"version", 1},      {"seed", options.seed},      {"learner", learner.settings()},
      {"classes", data.classes},     {"rows", data.rows}, {"features", data.features}, {"sets", design.sets}};
  const std::filesystem::path path = options.folder / "fit.json";
  if (std::filesystem::exists(path)) {
    if (read_json(path) != settings) {
      throw Error(ErrorCode::invalid_argument,
                  "{}: holds experts of other settings or data; choose another folder or remove it",
                  options.folder.string());
    }
    return;
  }
  std::error_code failure;
  std::filesystem::create_directories(options.folder, failure);
  if (failure) {
    throw Error(ErrorCode::io, "{}: the folder cannot be made: {}", options.folder.string(), failure.message());
  }
  write_file_atomically(path, settings.dump(1));
}

void check_fit(const Dataset& data, const Design& design, const Learner& learner, const FitOptions& options) {
  check(data, design);
  learner.check(data);
  if (options.folder.empty()) return;
  claim_folder(data, design, learner, options);
  if (options.claimed) options.claimed();
}

Ensemble fit_experts(const Dataset& data, const Design& design, const Learner& learner, const FitOptions& options) {
  check_fit(data, design, learner, options);
  const bool keep = !options.folder.empty();
  Ensemble ensemble{.design = design, .classes = data.classes};
  ensemble.experts.resize(design.sets.size());
  std::mutex mutex;
  const auto fit_one = [&](size_t j) {
    const std::filesystem::path path = expert_path(options.folder, j);
    if (keep && std::filesystem::exists(path)) {
      ensemble.experts[j] = learner.load(read_file(path), path.string());
      return;
    }
    const uint64_t seed = expert_seed(options.seed, j);
    std::shared_ptr<const Classifier> expert = learner.fit(restrict_to(data, design.sets[j]), seed);
    if (keep) write_file_atomically(path, expert->save());
    const std::lock_guard lock(mutex);
    ensemble.experts[j] = std::move(expert);
    if (options.done) options.done(j);
  };
  ThreadPool& pool = options.pool != nullptr ? *options.pool : ThreadPool::shared();
  pool.parallel_for(0, static_cast<int64_t>(design.sets.size()), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t j = begin; j < end; ++j) fit_one(static_cast<size_t>(j));
  });
  return ensemble;
}

Ensemble load_experts(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "fit.json";
  if (!std::filesystem::exists(path)) {
    throw Error(ErrorCode::not_found, "{}: holds no experts; 'tessera experts fit' makes such a folder",
                folder.string());
  }
  const nlohmann::json settings = read_json(path);
  Ensemble ensemble;
  std::unique_ptr<Learner> learner;
  try {
    if (settings.at("format") != "tessera-experts" || settings.at("version") != 1) {
      throw Error(ErrorCode::bad_file, "{}: expected experts of format 1, found another", path.string());
    }
    ensemble.classes = settings.at("classes").get<std::vector<std::string>>();
    ensemble.design = {.classes = static_cast<int>(ensemble.classes.size()),
                       .sets = settings.at("sets").get<std::vector<std::vector<int>>>()};
    learner = learner_from(settings.at("learner"), path.string());
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorCode::bad_file, "{}: expected the settings of a fit; {}", path.string(), error.what());
  }
  check_design(ensemble.design);
  const size_t experts = ensemble.design.sets.size();
  for (size_t j = 0; j < experts; ++j) {
    const std::filesystem::path file = expert_path(folder, j);
    if (!std::filesystem::exists(file)) {
      throw Error(ErrorCode::not_found, "{}: expert {} of {} is missing; run the same fit command again to finish it",
                  folder.string(), j, experts);
    }
    ensemble.experts.push_back(learner->load(read_file(file), file.string()));
    const Classifier& expert = *ensemble.experts.back();
    if (expert.classes() != static_cast<int>(ensemble.design.sets[j].size()) ||
        expert.features() != ensemble.experts.front()->features()) {
      throw Error(ErrorCode::bad_file, "{}: the expert has {} classes and {} features, its set {} classes",
                  file.string(), expert.classes(), expert.features(), ensemble.design.sets[j].size());
    }
  }
  return ensemble;
}

Answers ask(const Ensemble& ensemble, std::span<const float> rows, int64_t count, ThreadPool* pool) {
  const std::vector<int32_t> offsets = answer_offsets(ensemble.design);
  const auto columns = static_cast<size_t>(offsets.back());
  Answers answers{.inputs = count};
  answers.probabilities.resize(static_cast<size_t>(count) * columns);
  answers.evidence.resize(static_cast<size_t>(count) * ensemble.experts.size());
  for (const auto& expert : ensemble.experts) {
    if (static_cast<size_t>(expert->features() * count) != rows.size()) {
      throw Error(ErrorCode::invalid_argument, "the experts were trained on {} features, the input has {}",
                  expert->features(), count > 0 ? static_cast<int64_t>(rows.size()) / count : 0);
    }
  }
  ThreadPool& workers = pool != nullptr ? *pool : ThreadPool::shared();
  workers.parallel_for(0, static_cast<int64_t>(ensemble.experts.size()), 1, [&](int64_t begin, int64_t end, int) {
    for (auto j = static_cast<size_t>(begin); j < static_cast<size_t>(end); ++j) {
      const size_t size = ensemble.design.sets[j].size();
      std::vector<float> block(static_cast<size_t>(count) * size);
      std::vector<float> evidence(static_cast<size_t>(count));
      ensemble.experts[j]->predict(rows, block, evidence);
      for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
        answers.evidence[i * ensemble.experts.size() + j] = evidence[i];
        std::copy_n(block.data() + i * size, size,
                    answers.probabilities.data() + i * columns + static_cast<size_t>(offsets[j]));
      }
    }
  });
  return answers;
}

}  // namespace tessera::experts
