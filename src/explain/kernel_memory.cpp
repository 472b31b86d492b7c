// What a kernel model has learned, as JSON. Numbers are written with all their digits, so that answers are the same.
#include <nlohmann/json.hpp>

#include "explain/kernel_model.h"
#include "tessera/base/error.h"

namespace tessera::explain {
namespace {

nlohmann::json kernel_json(const Kernel& kernel) {
  return {{"smoothness", static_cast<int>(kernel.smoothness)},
          {"length", kernel.length},
          {"penalty", kernel.penalty},
          {"nugget", kernel.nugget},
          {"exact_outputs", kernel.exact_outputs}};
}

Kernel kernel_of(const nlohmann::json& json, size_t continuous, size_t categorical) {
  Kernel kernel;
  const int smoothness = json.at("smoothness");
  kernel.smoothness = static_cast<Smoothness>(smoothness);
  kernel.length = json.at("length").get<std::vector<double>>();
  kernel.penalty = json.at("penalty").get<std::vector<double>>();
  kernel.nugget = json.at("nugget");
  kernel.exact_outputs = json.at("exact_outputs");
  if (smoothness < 0 || smoothness > static_cast<int>(Smoothness::exponential) || kernel.length.size() != continuous ||
      kernel.penalty.size() != categorical || !(kernel.nugget > 0)) {
    throw Error(ErrorCode::bad_file, "learned kernels: expected {} lengths and {} penalties, found {} and {}",
                continuous, categorical, kernel.length.size(), kernel.penalty.size());
  }
  for (const double length : kernel.length) {
    if (!(length > 0)) throw Error(ErrorCode::bad_file, "learned kernels: a length is {}, not positive", length);
  }
  return kernel;
}

}  // namespace

nlohmann::json KernelModel::learned() const {
  const std::lock_guard lock(mutex_);
  nlohmann::json result = nlohmann::json::array();
  for (const auto& [cell, region] : regions_) {
    nlohmann::json one = {{"cell", cell},
                          {"kernel", kernel_json(region->kernel)},
                          {"own_cell", region->cell},
                          {"value_factor", region->value_factor},
                          {"pair_factor", region->pair_factor},
                          {"records", region->records}};
    for (const Candidate& candidate : region->candidates) {
      one["candidates"].push_back({{"kernel", kernel_json(candidate.kernel)},
                                   {"signal_variance", candidate.signal_variance},
                                   {"log_weight", candidate.log_weight}});
    }
    result.push_back(one);
  }
  return result;
}

void KernelModel::restore(const nlohmann::json& learned) {
  const size_t continuous = search_.continuous().size(), categorical = search_.categorical().size();
  std::map<int64_t, std::unique_ptr<Region>> regions;
  for (const nlohmann::json& one : learned) {
    auto region = std::make_unique<Region>();
    region->kernel = kernel_of(one.at("kernel"), continuous, categorical);
    region->cell = one.at("own_cell");
    region->value_factor = one.at("value_factor");
    region->pair_factor = one.at("pair_factor");
    region->records = one.at("records");
    for (const nlohmann::json& candidate : one.at("candidates")) {
      region->candidates.push_back({kernel_of(candidate.at("kernel"), continuous, categorical),
                                    candidate.at("signal_variance"), candidate.at("log_weight")});
    }
    regions[one.at("cell").get<int64_t>()] = std::move(region);
  }
  const std::lock_guard lock(mutex_);
  for (auto& [cell, region] : regions) {
    auto flag = std::make_shared<std::once_flag>();
    std::call_once(*flag, [] {});
    once_[cell] = flag;
    regions_[cell] = std::move(region);
  }
}

}  // namespace tessera::explain
