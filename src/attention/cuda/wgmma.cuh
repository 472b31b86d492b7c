// wgmma.mma_async m64nNk16 with f32 accumulators, one wrapper per N and element type: A from shared memory or from
// registers, B from shared memory with channels (kTransposeB = 0) or rows (1) as the contracted dimension.
//
//   Wgmma<__nv_bfloat16, 128>::shared<0>(accumulator, a_descriptor, b_descriptor, accumulate);
//   Wgmma<__nv_bfloat16, 128>::registers<1>(accumulator, a_registers, b_descriptor, accumulate);
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace tessera::attention::cuda {

template <typename Element, int kColumns>
struct Wgmma;

#define TESSERA_D8(i)                                                                                         \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
      "+f"(d[i + 7])
#define TESSERA_D16(i) TESSERA_D8(i), TESSERA_D8(i + 8)
#define TESSERA_D32(i) TESSERA_D16(i), TESSERA_D16(i + 16)
#define TESSERA_D48(i) TESSERA_D32(i), TESSERA_D16(i + 32)
#define TESSERA_D64(i) TESSERA_D32(i), TESSERA_D32(i + 32)
#define TESSERA_D128(i) TESSERA_D64(i), TESSERA_D64(i + 64)

#define TESSERA_N32                                                                                                    \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30," \
  "%31"
#define TESSERA_N48 TESSERA_N32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define TESSERA_N64 TESSERA_N48 ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define TESSERA_N128                                                                                         \
  TESSERA_N64                                                                                                \
  ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89" \
  ",%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111"     \
  ",%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"

// COUNT: accumulators per thread = N / 2. P0..P5: the operand numbers COUNT, COUNT + 1, ... as text.
#define TESSERA_WGMMA(ELEMENT, TYPE, N, COUNT, P0, P1, P2, P3, P4, P5, P6)                                         \
  template <>                                                                                                      \
  struct Wgmma<ELEMENT, N> {                                                                                       \
    template <int kTransposeB>                                                                                     \
    static __device__ __forceinline__ void shared(float (&d)[COUNT], uint64_t a, uint64_t b, int accumulate) {     \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" P2 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N            \
                   "k16.f32." TYPE "." TYPE " {" TESSERA_N##COUNT "}, %" P0 ", %" P1 ", p, 1, 1, 0, %" P3 ";\n}\n" \
                   : TESSERA_D##COUNT(0)                                                                           \
                   : "l"(a), "l"(b), "r"(accumulate), "n"(kTransposeB));                                           \
    }                                                                                                              \
    template <int kTransposeB>                                                                                     \
    static __device__ __forceinline__ void registers(float (&d)[COUNT], const uint32_t* a, uint64_t b,             \
                                                     int accumulate) {                                             \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" P5 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N            \
                   "k16.f32." TYPE "." TYPE " {" TESSERA_N##COUNT "}, {%" P0 ",%" P1 ",%" P2 ",%" P3 "}, %" P4     \
                                                                  ", p, 1, 1, %" P6 ";\n}\n"                       \
                   : TESSERA_D##COUNT(0)                                                                           \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(kTransposeB));       \
    }                                                                                                              \
  }

#define TESSERA_WGMMA_ALL(ELEMENT, TYPE)                                           \
  TESSERA_WGMMA(ELEMENT, TYPE, 64, 32, "32", "33", "34", "35", "36", "37", "38");  \
  TESSERA_WGMMA(ELEMENT, TYPE, 96, 48, "48", "49", "50", "51", "52", "53", "54");  \
  TESSERA_WGMMA(ELEMENT, TYPE, 128, 64, "64", "65", "66", "67", "68", "69", "70"); \
  TESSERA_WGMMA(ELEMENT, TYPE, 256, 128, "128", "129", "130", "131", "132", "133", "134")

TESSERA_WGMMA_ALL(__nv_bfloat16, "bf16");
TESSERA_WGMMA_ALL(__half, "f16");

#undef TESSERA_WGMMA_ALL
#undef TESSERA_WGMMA

}  // namespace tessera::attention::cuda
