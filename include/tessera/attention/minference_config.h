// Reads MInference's per-head configuration files into vertical-slash budgets.
//
//   VerticalSlashOptions options;
//   options.per_head = read_minference_config("Llama_3_8B_Instruct_262k_kv_out_v32_best_pattern.json");
//
// The file is a JSON list with one object per layer; its keys are query heads as strings, its values
// [type, vertical, slash, score]:
//   vertical_and_slash   budgets as given
//   stream_llm           sinks and window as given, taken as a budget of the same sizes
//   block_sparse         the fallback budget (1000, 6096)
// The last two follow MInference's own search, which rewrites its results so. The score has no agreed meaning and is
// not read. Heads without an entry keep the options' default budget.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <utility>

#include "tessera/attention/selectors.h"

namespace tessera::attention {

using HeadBudgets = std::map<std::pair<int, int>, VerticalSlashBudget>;  // by (layer, query head)

// Throws Error(not_found | io), or Error(bad_file) on ill-formed content or an unknown type.
HeadBudgets read_minference_config(const std::filesystem::path& path);

// `name` stands for the document in error messages.
HeadBudgets parse_minference_config(const nlohmann::json& document, std::string_view name);

}  // namespace tessera::attention
