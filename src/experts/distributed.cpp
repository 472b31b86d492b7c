#include "tessera/experts/distributed.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "experts/data/class_names.h"
#include "experts/fit_folder.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"

namespace tessera::experts {
namespace {

// First byte of what ranks tell each other: all went well, or the rest is an error message.
constexpr char kGood = '+', kBad = '-';

std::string tagged(const std::string& bytes) { return kGood + bytes; }

// Runs `work` on this rank and tells rank 0 what came of it; throws on every rank when it threw on one.
template <typename Work>
std::vector<std::string> together(Ranks& ranks, Work work) {
  std::string mine;
  try {
    mine = tagged(work());
  } catch (const Error& error) {
    mine = kBad + std::string(error.what());
  }
  std::vector<std::string> all = ranks.gather(mine);
  std::string verdict(1, kGood);
  for (size_t r = 0; r < all.size(); ++r) {
    if (all[r].starts_with(kBad) && verdict[0] == kGood) {
      verdict = fmt::format("{}rank {}: {}", kBad, r, all[r].substr(1));
    }
    all[r].erase(0, 1);
  }
  verdict = ranks.broadcast(verdict);
  if (verdict[0] == kBad) throw Error(ErrorCode::invalid_argument, "{}", verdict.substr(1));
  return all;
}

nlohmann::json describe(const Dataset& data) {
  std::vector<int64_t> rows(data.classes.size(), 0);
  for (const int32_t label : data.labels) ++rows[static_cast<size_t>(label)];
  return {{"rows", rows}, {"features", data.features}, {"classes", data.classes}};
}

// On rank 0: who trains what, -1: finished earlier. Claims the folder.
std::vector<int> plan(const std::vector<std::string>& told, const Design& design, const Learner& learner,
                      const FitOptions& options) {
  std::vector<std::vector<int64_t>> rows;
  Dataset whole;
  bool shared = true;
  for (size_t r = 0; r < told.size(); ++r) {
    const nlohmann::json about = nlohmann::json::parse(told[r]);
    const auto features = about.at("features").get<int64_t>();
    if (r == 0) whole.features = features, whole.classes = about.at("classes").get<std::vector<std::string>>();
    if (features != whole.features || about.at("classes") != nlohmann::json(whole.classes)) {
      throw Error(ErrorCode::invalid_argument, "ranks 0 and {} have data of different features or classes", r);
    }
    rows.push_back(about.at("rows").get<std::vector<int64_t>>());
    shared = shared && rows.back() == rows.front();
  }
  for (const auto& of_rank : rows) {
    if (shared && whole.rows > 0) break;
    for (const int64_t count : of_rank) whole.rows += count;
  }
  if (static_cast<int>(whole.classes.size()) != design.classes) {
    throw Error(ErrorCode::invalid_argument, "the data has {} classes, the design {}; give a design of as many classes",
                whole.classes.size(), design.classes);
  }
  std::vector<int> owners = assign_experts(design, rows);
  claim_folder(whole, design, learner, options);
  if (options.claimed) options.claimed();
  for (size_t j = 0; j < owners.size(); ++j) {
    if (std::filesystem::exists(expert_path(options.folder, j))) owners[j] = -1;
  }
  return owners;
}

}  // namespace

std::vector<std::string> agree_on_classes(Ranks& ranks, const std::vector<std::string>& local) {
  const std::vector<std::string> told = ranks.gather(nlohmann::json(local).dump());
  std::vector<std::string> names, texts;
  for (const std::string& text : told) {
    const auto more = nlohmann::json::parse(text).get<std::vector<std::string>>();
    texts.insert(texts.end(), more.begin(), more.end());
  }
  std::vector<int32_t> unused;
  if (!texts.empty()) number_classes(texts, std::vector<int64_t>(texts.size(), 0), "the ranks' data", names, unused);
  return nlohmann::json::parse(ranks.broadcast(nlohmann::json(names).dump())).get<std::vector<std::string>>();
}

std::vector<int> assign_experts(const Design& design, const std::vector<std::vector<int64_t>>& rows) {
  std::vector<int64_t> load(rows.size(), 0);
  std::vector<int> owners;
  for (size_t j = 0; j < design.sets.size(); ++j) {
    int owner = -1;
    int64_t most = -1;
    for (size_t r = 0; r < rows.size(); ++r) {
      int64_t total = 0;
      bool complete = true;
      for (const int item : design.sets[j]) {
        total += rows[r][static_cast<size_t>(item)];
        complete = complete && rows[r][static_cast<size_t>(item)] > 0;
      }
      if (!complete || total < most) continue;
      if (total > most || load[r] < load[static_cast<size_t>(owner)]) owner = static_cast<int>(r), most = total;
    }
    if (owner < 0) {
      throw Error(ErrorCode::invalid_argument,
                  "no rank holds rows of all {} classes of expert {}; give a design whose sets lie within ranks, or "
                  "bring the rows together",
                  design.sets[j].size(), j);
    }
    load[static_cast<size_t>(owner)] += most;
    owners.push_back(owner);
  }
  return owners;
}

Ensemble fit_distributed(Ranks& ranks, const Dataset& local, const Design& design, const Learner& learner,
                         const FitOptions& options) {
  const std::vector<std::string> told = together(ranks, [&] {
    check_design(design);
    learner.check(local);
    return describe(local).dump();
  });
  std::string planned;
  together(ranks, [&] {
    if (ranks.rank() == 0) planned = nlohmann::json(plan(told, design, learner, options)).dump();
    return std::string();
  });
  const auto owners = nlohmann::json::parse(ranks.broadcast(planned)).get<std::vector<int>>();
  std::vector<std::vector<size_t>> tasks(static_cast<size_t>(ranks.size()));
  for (size_t j = 0; j < owners.size(); ++j) {
    if (owners[j] >= 0) tasks[static_cast<size_t>(owners[j])].push_back(j);
  }
  size_t rounds = 0;
  for (const auto& list : tasks) rounds = std::max(rounds, list.size());
  const auto& mine = tasks[static_cast<size_t>(ranks.rank())];
  for (size_t round = 0; round < rounds; ++round) {
    const std::vector<std::string> models = together(ranks, [&] {
      if (round >= mine.size()) return std::string();
      const size_t j = mine[round];
      return learner.fit(restrict_to(local, design.sets[j]), expert_seed(options.seed, j))->save();
    });
    together(ranks, [&] {
      for (size_t r = 0; r < models.size(); ++r) {
        if (round >= tasks[r].size()) continue;
        write_file_atomically(expert_path(options.folder, tasks[r][round]), models[r]);
        if (options.done) options.done(tasks[r][round]);
      }
      return std::string();
    });
  }
  if (ranks.rank() != 0) return {.design = design, .classes = local.classes};
  return load_experts(options.folder);
}

}  // namespace tessera::experts
