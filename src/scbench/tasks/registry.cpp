#include <fmt/format.h>

#include <array>

#include "scbench/tasks/common.h"
#include "tessera/base/error.h"

namespace tessera::scbench {
namespace {

std::array<const Task*, 6> all_tasks() {
  return {&kv_task(), &prefix_suffix_task(), &vt_task(), &mf_task(), &many_shot_task(), &passkey_task()};
}

// FNV-1a: a name's stream of randomness, the same on every platform.
uint64_t hash_of(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325ULL;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return hash;
}

}  // namespace

std::vector<std::string> task_names() {
  std::vector<std::string> names;
  for (const Task* task : all_tasks()) names.push_back(task->name());
  return names;
}

const Task& find_task(std::string_view name) {
  for (const Task* task : all_tasks()) {
    if (task->name() == name) return *task;
  }
  throw Error(ErrorCode::invalid_argument, "unknown task '{}'; expected one of {}", name, join(task_names(), ", "));
}

Random example_random(uint64_t seed, std::string_view task, int64_t index) {
  return Random(seed).split(hash_of(task)).split(static_cast<uint64_t>(index));
}

}  // namespace tessera::scbench
