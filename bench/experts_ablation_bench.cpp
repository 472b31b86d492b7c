// What single choices of the experts are worth (docs/experts-rules.md), one line of JSON per setting and seed.
//
//   bench_experts_ablation [--studies covers,epsilon,noise,labelers] [--seeds 5] [--designs FOLDER] [--out FILE.jsonl]
//
// On Letter, experts of R = 6 classes with the settings of the table:
//   covers    the covering design against as many random sets, and against 13 sets in which every class lies 3 times
//   epsilon   the in-set error that naive-bayes assumes
//   noise     a share of wrong labels: in each expert's training rows (drawn anew per expert), or in the answers;
//   designs
//             whose pairs share 1 set and 3 sets
//   labelers  Dawid-Skene and one-coin against votes: hard answers of the Letter experts, and simulated labelers
// Finished seeds of a study in --out are not repeated. The closing table gives means and 95 % t intervals over seeds.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "experts_table.h"
#include "tessera/base/build_info.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"
#include "tessera/base/interrupt.h"
#include "tessera/base/random.h"
#include "tessera/experts/combine.h"
#include "tessera/experts/fit.h"
#include "tessera/experts/labelers.h"
#include "tessera/experts/metrics.h"

namespace tessera::experts {
namespace {

constexpr int kSize = 6;

struct Context {
  Split split;
  std::filesystem::path designs;
  std::unique_ptr<Learner> learner;
  uint64_t seed = 0;
  int classes() const { return static_cast<int>(split.train.classes.size()); }
  Random random(uint64_t stream) const { return Random(seed).split(1000 + stream); }
};

using Measures = std::map<std::string, double>;
using Results = std::vector<std::pair<std::string, Measures>>;  // setting, measures

Design read_sets(const std::filesystem::path& path, int classes) {
  return {.classes = classes, .sets = read_json(path).at("sets").get<std::vector<std::vector<int>>>()};
}

bool connects_all(const Design& design) {
  std::vector<bool> reached(static_cast<size_t>(design.classes), false);
  reached[0] = true;
  for (size_t round = 0; round < reached.size(); ++round) {
    for (const auto& set : design.sets) {
      const auto inside = [&](int item) { return reached[static_cast<size_t>(item)]; };
      if (!std::any_of(set.begin(), set.end(), inside)) continue;
      for (const int item : set) reached[static_cast<size_t>(item)] = true;
    }
  }
  return std::find(reached.begin(), reached.end(), false) == reached.end();
}

// `sets` sets of kSize classes; degree 0: each drawn alone, else every class lies in `degree` of them.
Design random_design(int classes, int sets, int degree, Random random) {
  while (true) {
    std::vector<int> deck;
    const int decks = degree > 0 ? degree : sets;
    for (int d = 0; d < decks; ++d) {
      std::vector<int> all;
      for (int k = 0; k < classes; ++k) all.push_back(k);
      random.shuffle(all);
      if (degree == 0) all.resize(kSize);
      deck.insert(deck.end(), all.begin(), all.end());
    }
    Design design{.classes = classes};
    bool good = true;
    for (size_t at = 0; at + kSize <= deck.size(); at += kSize) {
      const auto begin = deck.begin() + static_cast<std::ptrdiff_t>(at);
      std::vector<int> set(begin, begin + kSize);
      std::sort(set.begin(), set.end());
      good = good && std::adjacent_find(set.begin(), set.end()) == set.end();
      design.sets.push_back(set);
    }
    if (good && connects_all(design)) return design;
  }
}

double accuracy_of(const std::vector<int32_t>& labels, const std::vector<int32_t>& truth) {
  double right = 0;
  for (size_t i = 0; i < truth.size(); ++i) right += labels[i] == truth[i];
  return 100 * right / static_cast<double>(truth.size());
}

void add_rules(const Design& design, const Answers& answers, const std::vector<int32_t>& truth,
               std::initializer_list<Rule> rules, double in_set_error, Measures& measures) {
  for (const Rule rule : rules) {
    const Combination result = combine(design, answers, {.rule = rule, .in_set_error = in_set_error});
    measures[to_string(rule)] = accuracy_of(result.labels, truth);
  }
}

Answers answers_of(const Context& context, const Design& design, const Learner& learner) {
  const Ensemble ensemble = fit_experts(context.split.train, design, learner, {.seed = context.seed});
  return ask(ensemble, context.split.test.values, context.split.test.rows);
}

Results covers(const Context& context) {
  Results results;
  const int classes = context.classes();
  const auto add = [&](const char* name, const Design& design) {
    const Answers answers = answers_of(context, design, *context.learner);
    const auto pairs = static_cast<double>(classes) * (classes - 1) / 2;
    Measures measures = {{"experts", static_cast<double>(design.sets.size())},
                         {"% pairs covered", 100 * (1 - static_cast<double>(count_pairs(design).uncovered) / pairs)}};
    add_rules(design, answers, context.split.test.labels,
              {Rule::plurality, Rule::deficit, Rule::naive_bayes, Rule::balance, Rule::quadratic}, 0.05, measures);
    results.emplace_back(name, measures);
  };
  add("cover", table_design(context.designs, classes, kSize));
  add("24 random sets", random_design(classes, 24, 0, context.random(1)));
  add("13 sets, every class in 3", random_design(classes, 13, 3, context.random(2)));
  return results;
}

Results epsilon(const Context& context) {
  Results results;
  const Design design = table_design(context.designs, context.classes(), kSize);
  const Answers answers = answers_of(context, design, *context.learner);
  const auto& truth = context.split.test.labels;
  for (const double eps : {0.001, 0.003, 0.01, 0.03, 0.05, 0.1, 0.2, 0.4}) {
    const Combination result = combine(design, answers, {.rule = Rule::naive_bayes, .in_set_error = eps});
    const Scores scores = score(result.probabilities, result.labels, truth, context.classes());
    results.push_back({fmt::format("eps {}", eps),
                       {{"naive-bayes", 100 * scores.accuracy},
                        {"NLL", scores.negative_log_likelihood},
                        {"ECE", scores.calibration_error}}});
  }
  return results;
}

// Another learner whose training labels are wrong in a share of the rows, uniformly over the other classes.
class NoisyLearner : public Learner {
 public:
  NoisyLearner(const Learner& inner, double share) : inner_(inner), share_(share) {}
  void check(const Dataset& data) const override { inner_.check(data); }
  std::unique_ptr<Classifier> fit(const Dataset& data, uint64_t seed) const override {
    Dataset noisy = data;
    Random random(seed + 1);
    const auto others = static_cast<int64_t>(data.classes.size()) - 1;
    for (int32_t& label : noisy.labels) {
      if (random.uniform() >= share_) continue;
      const auto other = static_cast<int32_t>(random.below(others));
      label = other < label ? other : other + 1;
    }
    return inner_.fit(noisy, seed);
  }
  std::unique_ptr<Classifier> load(std::string_view bytes, std::string_view name) const override {
    return inner_.load(bytes, name);
  }
  nlohmann::json settings() const override { return inner_.settings(); }

 private:
  const Learner& inner_;
  double share_;
};

// Hard answers, a share of them moved to another class of the set.
Answers with_wrong_answers(const Design& design, const Answers& answers, double share, Random random) {
  Answers result{.inputs = answers.inputs};
  result.labels = most_probable(design, answers);
  for (size_t k = 0; k < result.labels.size(); ++k) {
    const auto& set = design.sets[k % design.sets.size()];
    if (random.uniform() >= share) continue;
    const auto at = std::lower_bound(set.begin(), set.end(), result.labels[k]) - set.begin();
    const auto other = random.below(static_cast<int64_t>(set.size()) - 1);
    result.labels[k] = set[static_cast<size_t>(other < at ? other : other + 1)];
  }
  return result;
}

Results noise(const Context& context) {
  Results results;
  const auto& truth = context.split.test.labels;
  for (const int lambda : {1, 3}) {
    const std::string file = fmt::format("{}-{}{}.json", context.classes(), kSize, lambda > 1 ? "-lambda3" : "");
    const Design design = read_sets(context.designs / file, context.classes());
    const auto name = [&](const char* where, double share) {
      return fmt::format("{} {:2.0f} %, lambda {} ({} experts)", where, 100 * share, lambda, design.sets.size());
    };
    Answers clean;
    for (const double share : {0.0, 0.1, 0.2, 0.3}) {
      const Answers answers = answers_of(context, design, NoisyLearner(*context.learner, share));
      if (share == 0) clean = answers;
      Measures measures;
      add_rules(design, answers, truth, {Rule::deficit, Rule::naive_bayes, Rule::balance, Rule::quadratic},
                std::max(share, 0.05), measures);
      results.emplace_back(name("training rows", share), measures);
    }
    for (const double share : {0.1, 0.2, 0.3}) {
      const Answers answers = with_wrong_answers(design, clean, share, context.random(3));
      Measures measures;
      add_rules(design, answers, truth, {Rule::deficit, Rule::naive_bayes, Rule::balance, Rule::quadratic}, share,
                measures);
      results.emplace_back(name("answers", share), measures);
    }
  }
  return results;
}

// Labelers right with probability 1 - error in set; out of set uniform, or mostly one favourite per class.
Answers simulate(const Design& design, const std::vector<int32_t>& truth, double error, bool habits, Random random) {
  Answers answers{.inputs = static_cast<int64_t>(truth.size())};
  const auto any = [&](const std::vector<int>& set) {
    return set[static_cast<size_t>(random.below(static_cast<int64_t>(set.size())))];
  };
  std::vector<std::vector<int>> favourite;  // [labelers][classes]
  for (const auto& set : design.sets) {
    favourite.emplace_back();
    for (int k = 0; k < design.classes; ++k) favourite.back().push_back(any(set));
  }
  for (const int32_t y : truth) {
    for (size_t j = 0; j < design.sets.size(); ++j) {
      const auto& set = design.sets[j];
      int32_t label = any(set);
      if (std::binary_search(set.begin(), set.end(), y)) {
        const bool right = random.uniform() >= error;
        if (right) label = y;
        while (!right && label == y) label = any(set);
      } else if (habits && random.uniform() < 0.8) {
        label = favourite[j][static_cast<size_t>(y)];
      }
      answers.labels.push_back(label);
    }
  }
  return answers;
}

Results labelers(const Context& context) {
  Results results;
  const auto add = [&](const std::string& name, const Design& design, const Answers& answers,
                       const std::vector<int32_t>& truth) {
    Measures measures;
    add_rules(design, answers, truth, {Rule::plurality, Rule::deficit, Rule::naive_bayes}, 0.1, measures);
    for (const LabelerModel model : {LabelerModel::one_coin, LabelerModel::dawid_skene}) {
      measures[to_string(model)] =
          accuracy_of(fit_labelers(design, answers, {.model = model}).combination.labels, truth);
    }
    results.emplace_back(name, measures);
  };
  const int classes = context.classes();
  const Design design = table_design(context.designs, classes, kSize);
  Answers answers = answers_of(context, design, *context.learner);
  answers.labels = most_probable(design, answers);
  answers.probabilities.clear();
  add("Letter experts, 4000 rows", design, answers, context.split.test.labels);
  for (const int64_t items : {500, 5000}) {
    for (const double error : {0.1, 0.4}) {
      for (const bool habits : {false, true}) {
        Random random = context.random(4);
        std::vector<int32_t> truth;
        for (int64_t i = 0; i < items; ++i) truth.push_back(static_cast<int32_t>(random.below(classes)));
        add(fmt::format("simulated, {} items, in-set error {}, out of set {}", items, error,
                        habits ? "favourites" : "uniform"),
            design, simulate(design, truth, error, habits, random.split(1)), truth);
      }
    }
  }
  return results;
}

using Study = Results (*)(const Context&);
const std::vector<std::pair<std::string, Study>> kStudies = {
    {"covers", covers}, {"epsilon", epsilon}, {"noise", noise}, {"labelers", labelers}};

void print_study(const std::string& study, const std::vector<nlohmann::json>& runs) {
  std::vector<std::string> order;
  std::map<std::string, std::map<std::string, std::vector<double>>> values;
  for (const auto& run : runs) {
    if (run.at("study") != study) continue;
    const auto setting = run.at("setting").get<std::string>();
    if (!values.contains(setting)) order.push_back(setting);
    for (const auto& [name, value] : run.at("measures").items()) values[setting][name].push_back(value.get<double>());
  }
  if (order.empty()) return;
  fmt::print("\n{}: means over seeds and 95 % t intervals\n", study);
  for (const std::string& setting : order) {
    fmt::print("  {:<62}", setting);
    for (const auto& [name, series] : values[setting]) {
      const auto [mean, half] = interval_of(series);
      const int digits = name == "NLL" || name == "ECE" ? 3 : 2;
      fmt::print("  {} {:.{}f} ± {:.{}f}", name, mean, digits, half, digits);
    }
    fmt::print("\n");
  }
}

void run_all(const std::vector<std::string>& wanted, int seeds, Context& context, const std::string& out) {
  std::vector<nlohmann::json> runs = read_runs(out);
  std::set<std::pair<std::string, uint64_t>> finished;
  for (const auto& run : runs) finished.emplace(run.at("study").get<std::string>(), run.at("seed").get<uint64_t>());
  std::unique_ptr<LineLog> log;
  if (!out.empty()) log = std::make_unique<LineLog>(out);
  for (uint64_t seed = 1; seed <= static_cast<uint64_t>(seeds); ++seed) {
    context.seed = seed;
    for (const auto& [name, study] : kStudies) {
      if (std::find(wanted.begin(), wanted.end(), name) == wanted.end() || finished.contains({name, seed})) continue;
      throw_if_interrupted();
      std::string lines;
      for (const auto& [setting, measures] : study(context)) {
        runs.push_back({{"study", name},
                        {"setting", setting},
                        {"seed", seed},
                        {"measures", measures},
                        {"machine", machine_description()}});
        lines += (lines.empty() ? "" : "\n") + runs.back().dump();
      }
      if (log) log->append(lines);
      fmt::print(stderr, "{} seed {} done\n", name, seed);
    }
  }
  for (const auto& [name, study] : kStudies) print_study(name, runs);
}

}  // namespace
}  // namespace tessera::experts

int main(int argc, char** argv) {
  using namespace tessera;
  std::vector<std::string> studies = {"covers", "epsilon", "noise", "labelers"};
  int seeds = 5;
  std::string designs = "bench/results/experts/designs", out;
  CLI::App app{"what single choices of the experts are worth, on Letter"};
  app.add_option("--studies", studies, "covers, epsilon, noise, labelers")->delimiter(',');
  app.add_option("--seeds", seeds, "number of seeds")->check(CLI::PositiveNumber);
  app.add_option("--designs", designs, "folder of designs K-R.json");
  app.add_option("--out", out, "file of JSON lines that is continued");
  CLI11_PARSE(app, argc, argv);
  try {
    catch_interrupts();
    experts::Context context{.split = experts::load_split("letter"), .designs = designs};
    context.learner = experts::make_learner(experts::table_settings("letter", "mlp"));
    experts::run_all(studies, seeds, context, out);
  } catch (const Error& error) {
    fmt::print(stderr, "bench_experts_ablation: {}\n", error.what());
    return 2;
  }
}
