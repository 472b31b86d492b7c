// The folder of a fit: fit.json, then one file per expert.
#pragma once

#include <cstdint>
#include <filesystem>

#include "tessera/experts/fit.h"

namespace tessera::experts {

std::filesystem::path expert_path(const std::filesystem::path& folder, size_t expert);

// Seed of everything random about one expert.
uint64_t expert_seed(uint64_t seed, size_t expert);

// Writes the settings, or compares with those that are there. Only classes, rows and features of `data` are looked at.
void claim_folder(const Dataset& data, const Design& design, const Learner& learner, const FitOptions& options);

}  // namespace tessera::experts
