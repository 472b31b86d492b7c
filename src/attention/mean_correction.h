// Partial attention over means: what a work list leaves out, pooled. See AttentionOptions::correction_levels.
#pragma once

#include "tessera/attention/attention.h"

namespace tessera::attention {

// Tiles in a mean of the second level.
constexpr int64_t kTilesPerGroup = 8;

// `input` and `work` must fit each other. Empty where nothing was left out; dense heads leave nothing out.
AttentionPartial attend_means(const AttentionInput& input, const WorkList& work, int levels, ThreadPool& pool);

}  // namespace tessera::attention
