#include "tessera/tensor/simd.h"

#include <cstdlib>

#include "tessera/base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/simd.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

int64_t current_target() { return HWY_TARGET; }

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera {
namespace {

HWY_EXPORT(current_target);

// EMU128 is what Highway offers instead of SCALAR where the compiler can build it; both are plain C++ to the user.
std::string target_name(int64_t target) {
  if (target == HWY_EMU128 || target == HWY_SCALAR) return "scalar";
  std::string name = hwy::TargetName(target);
  for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return name;
}

bool is_known_name(std::string_view name) {
  for (int bit = 0; bit < 63; ++bit) {
    const int64_t target = int64_t{1} << bit;
    if (std::string_view(hwy::TargetName(target)) != "Unknown" && target_name(target) == name) return true;
  }
  return false;
}

// The targets that are compiled into this program and that this CPU can run, as Highway's bits, best first.
const std::vector<int64_t>& usable_targets() {
  static const std::vector<int64_t> targets = [] {
    std::vector<int64_t> found = hwy::SupportedAndGeneratedTargets();
    // The installed library may have been built by a compiler with another idea of the plain C++ target than ours.
    constexpr int64_t kPlain = HWY_TARGETS & (HWY_SCALAR | HWY_EMU128);
    if (kPlain != 0 && (found.empty() || found.back() != kPlain)) found.push_back(kPlain);
    return found;
  }();
  return targets;
}

void use(int64_t target) {
  hwy::SetSupportedTargetsForTest(target);  // 0 means: detect
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

std::vector<std::string> simd_targets() {
  std::vector<std::string> names;
  for (const int64_t target : usable_targets()) names.push_back(target_name(target));
  return names;
}

void set_simd_target(std::string_view name) {
  const std::vector<int64_t>& targets = usable_targets();
  if (name.empty()) return use(0);
  for (const int64_t target : targets) {
    if (target_name(target) == name) return use(target);
  }
  if (is_known_name(name)) {
    throw Error(ErrorCode::unsupported, "TESSERA_CPU_TARGET: this CPU or this build cannot run '{}'; choose one of {}",
                name, joined(simd_targets()));
  }
  throw Error(ErrorCode::invalid_argument, "TESSERA_CPU_TARGET: expected one of {}, found '{}'", joined(simd_targets()),
              name);
}

void ensure_simd_target() {
  static const bool applied = [] {
    const char* name = std::getenv("TESSERA_CPU_TARGET");
    set_simd_target(name == nullptr ? "" : name);
    return true;
  }();
  static_cast<void>(applied);
}

std::string simd_target() {
  ensure_simd_target();
  return hwy::TargetName(HWY_DYNAMIC_DISPATCH(current_target)());
}

}  // namespace tessera
#endif  // HWY_ONCE
