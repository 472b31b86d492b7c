// The instruction set that the CPU kernels of every floor run on.
//
// Kernels are compiled once per Highway target and chosen at run time. The environment variable TESSERA_CPU_TARGET
// forces a target for tests and bug reports: scalar, ssse3, sse4, avx2, avx3, avx3_dl on x86-64, scalar, neon on Arm.
// Every public function that dispatches calls ensure_simd_target() first, so that the variable is honoured whichever
// kernel runs first:
//
//   void axpy(...) {
//     ensure_simd_target();
//     HWY_DYNAMIC_DISPATCH(axpy_kernel)(...);
//   }
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// Applies TESSERA_CPU_TARGET on the first call and is nearly free afterwards. Throws Error(invalid_argument) when the
// variable names no target, Error(unsupported) when it names one that this CPU or this build lacks.
void ensure_simd_target();

// The target in use, for example "AVX2".
std::string simd_target();

// The targets that this build has and this CPU can run, best first, in lower case, for example {"avx2", ..., "scalar"}.
std::vector<std::string> simd_targets();

// Chooses a target by its name in simd_targets(); an empty name returns to the best one. For tests: no kernel may be
// running. Throws like ensure_simd_target().
void set_simd_target(std::string_view name);

}  // namespace tessera
