#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "cli/command_experts.h"
#include "cli/experts_data.h"
#include "tessera/base/error.h"
#include "tessera/base/progress.h"
#include "tessera/experts/covering.h"
#include "tessera/experts/design_file.h"
#include "tessera/experts/distributed.h"

namespace tessera::cli {
namespace {

using namespace tessera::experts;

struct FitCommand {
  std::string data, design, out;
  int size = 0, lambda = 1;
  double seconds = 5;
  uint64_t seed = 0;
  bool centralised = false, mpi = false, json = false;
  LearnerOptions learner;
  DataOptions reading;
};

void check_command(const FitCommand& command) {
  if (command.design.empty() == (command.size == 0)) {
    throw Error(ErrorCode::invalid_argument, "fit: expected exactly one of --design FILE and --size R");
  }
  if (command.out.empty()) throw Error(ErrorCode::invalid_argument, "--out: expected the name of a folder");
  if (std::filesystem::exists(command.out) && !std::filesystem::is_directory(command.out)) {
    throw Error(ErrorCode::invalid_argument, "{}: expected a folder or a new name, found a file", command.out);
  }
  (void)make_learner(command.learner);
}

// The design of an earlier run, so that a resumed fit does not search again.
bool read_kept(const FitCommand& command, const Dataset& data, DesignFile& file) {
  const std::filesystem::path path = std::filesystem::path(command.out) / "design.json";
  if (!std::filesystem::exists(path)) return false;
  file = read_design(path);
  if (file.certificate.value("size", 0) != command.size || file.certificate.value("lambda", 0) != command.lambda ||
      file.class_names != data.classes) {
    throw Error(ErrorCode::invalid_argument,
                "{}: holds experts of other settings or data; choose another folder or remove it", command.out);
  }
  return true;
}

DesignFile design_for(const FitCommand& command, const DesignFile& given, const Dataset& data) {
  DesignFile file = given;
  if (command.design.empty() && !read_kept(command, data, file)) {
    const Covering covering = find_covering(
        {.classes = static_cast<int>(data.classes.size()), .size = command.size, .lambda = command.lambda},
        {.seconds = command.seconds, .seed = command.seed});
    file.design = covering.design;
    file.certificate = {{"size", command.size},
                        {"lambda", command.lambda},
                        {"sets", covering.design.sets.size()},
                        {"lower_bound", covering.bound.sets},
                        {"method", covering.method}};
  }
  if (file.design.classes != static_cast<int>(data.classes.size())) {
    throw Error(ErrorCode::invalid_argument,
                "{}: has {} classes, the design {} has {}; give a design of as many classes", command.data,
                data.classes.size(), command.design, file.design.classes);
  }
  file.class_names = data.classes;
  return file;
}

int64_t finished_experts(const std::filesystem::path& folder) {
  int64_t count = 0;
  if (!std::filesystem::exists(folder)) return 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    count += name.starts_with("expert-") && name.ends_with(".bin");
  }
  return count;
}

struct Trained {
  int64_t experts = 0, resumed = 0;
};

Trained fit_in(const std::filesystem::path& folder, const FitCommand& command, const Dataset& data,
               const DesignFile& file, Ranks& ranks) {
  const Design& design = file.design;
  const auto total = static_cast<int64_t>(design.sets.size());
  const int64_t before = std::min(total, finished_experts(folder));
  Progress progress(folder.filename().string(), total, before);
  FitOptions options{.folder = folder, .seed = command.seed};
  options.claimed = [&] { write_design(folder / "design.json", file); };
  options.done = [&](size_t expert) { progress.advance(fmt::format("expert {}", expert)); };
  const auto learner = make_learner(command.learner);
  if (ranks.size() > 1) {
    fit_distributed(ranks, data, design, *learner, options);
  } else {
    fit_experts(data, design, *learner, options);
  }
  return {total, before};
}

// "part-{rank}.csv" names a file per rank.
std::string file_of_rank(const std::string& data, int rank) {
  const size_t at = data.find("{rank}");
  return at == std::string::npos ? data : data.substr(0, at) + std::to_string(rank) + data.substr(at + 6);
}

// This rank's rows, numbered by the classes of all ranks.
Dataset read_local(const FitCommand& command, const std::vector<std::string>& known, Ranks& ranks) {
  const std::string path = file_of_rank(command.data, ranks.rank());
  Dataset data = read_data(path, command.reading, known);
  if (ranks.size() == 1) return data;
  const std::vector<std::string> classes = agree_on_classes(ranks, data.classes);
  return classes == data.classes ? data : read_data(path, command.reading, classes);
}

// Rank 0 looks for the design; everyone gets it.
DesignFile shared_design(const FitCommand& command, const DesignFile& given, const Dataset& data, Ranks& ranks) {
  if (ranks.size() == 1) return design_for(command, given, data);
  const std::string text = ranks.rank() == 0 ? format_design(design_for(command, given, data)) : std::string();
  return parse_design(ranks.broadcast(text), "design of rank 0");
}

void run_fit(const FitCommand& command) {
  check_command(command);
  const std::unique_ptr<Ranks> ranks = command.mpi ? start_ranks() : std::make_unique<Ranks>();
  const DesignFile given = command.design.empty() ? DesignFile{} : read_design(command.design);
  const Dataset data = read_local(command, given.class_names, *ranks);
  const DesignFile file = shared_design(command, given, data, *ranks);
  const std::filesystem::path folder = command.out;
  const Trained trained = fit_in(folder, command, data, file, *ranks);
  if (command.centralised) {
    DesignFile all{.design = {.classes = file.design.classes, .sets = {{}}}, .class_names = file.class_names};
    for (int k = 0; k < all.design.classes; ++k) all.design.sets[0].push_back(k);
    fit_in(folder / "centralised", command, data, all, *ranks);
  }
  if (ranks->rank() != 0) return;
  const PairCoverage pairs = count_pairs(file.design);
  if (command.json) {
    const nlohmann::json document = {{"experts", trained.experts},   {"resumed", trained.resumed},
                                     {"classes", data.classes},      {"rows", data.rows},
                                     {"features", data.features},    {"lambda_min", pairs.lambda_min},
                                     {"uncovered", pairs.uncovered}, {"folder", command.out}};
    fmt::print("{}\n", document.dump(2));
    return;
  }
  fmt::print("{} experts of {} classes each for {} classes, trained on {} rows, are in {} ({} were there before)\n",
             trained.experts,
             pairs.size_min == pairs.size_max ? fmt::format("{}", pairs.size_max)
                                              : fmt::format("{} to {}", pairs.size_min, pairs.size_max),
             data.classes.size(), data.rows, command.out, trained.resumed);
  if (pairs.uncovered > 0) {
    fmt::print("{} pairs of classes share no expert: such classes cannot be told apart with certainty\n",
               pairs.uncovered);
  }
}

}  // namespace

void add_experts_fit(CLI::App& experts) {
  const auto command = std::make_shared<FitCommand>();
  CLI::App* fit = experts.add_subcommand("fit", "train one small classifier per set of a design; a killed run resumes");
  fit->add_option("DATA", command->data,
                  "training data: CSV, NPY, LIBSVM, IDX images (.gz too) or CIFAR .bin files joined by commas")
      ->required();
  fit->add_option("--out", command->out, "folder of the experts; the same command continues a killed run")->required();
  fit->add_option("--design", command->design, "design file");
  fit->add_option("--size", command->size, "or: R, find a design of sets of R classes");
  fit->add_option("--lambda", command->lambda, "with --size: sets that every two classes share");
  fit->add_option("--seconds", command->seconds, "with --size: most time for the search");
  fit->add_option("--learner", command->learner.kind, "softmax, mlp or cnn");
  fit->add_option("--hidden", command->learner.hidden, "units of the hidden layer");
  fit->add_option("--epochs", command->learner.epochs, "passes over an expert's rows");
  fit->add_option("--batch", command->learner.batch, "rows per step");
  fit->add_option("--learning-rate", command->learner.learning_rate, "at the start; falls linearly to 0");
  fit->add_option("--weight-decay", command->learner.weight_decay, "relative to the learning rate");
  fit->add_option("--channels", command->learner.channels, "of the first convolution of cnn");
  fit->add_option("--shift", command->learner.shift, "images: move training rows by up to so many pixels");
  fit->add_flag("--mirror", command->learner.mirror, "images: mirror every other training row");
  fit->add_option("--seed", command->seed, "of everything random");
  fit->add_flag("--centralised", command->centralised, "also train one classifier of all classes, for report");
  fit->add_flag(
      "--mpi", command->mpi,
      "share the experts among the processes of mpirun; '{rank}' in DATA names a file per process, whose rows "
      "stay there");
  fit->add_flag("--json", command->json, "print JSON");
  add_data_options(*fit, command->reading);
  fit->callback([command] { run_fit(*command); });
}

}  // namespace tessera::cli
