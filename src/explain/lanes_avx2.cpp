#include "explain/lanes.h"

namespace tessera::explain {

#if defined(__AVX2__) && defined(__FMA__)
namespace {
#include "explain/lanes_body.h"
}  // namespace

const Lanes* avx2_lanes() {
  static const Lanes table{"avx2", delete_rows, delete_by_parameters, distances, cholesky};
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &table : nullptr;
}
#else
const Lanes* avx2_lanes() { return nullptr; }
#endif

}  // namespace tessera::explain
