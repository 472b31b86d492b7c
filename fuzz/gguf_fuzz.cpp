// A GGUF file of any bytes: read, configured, loaded and, when it is a model, run on two tokens.
#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "model/transformer.h"
#include "tessera/base/error.h"
#include "tessera/model/gguf.h"

namespace {

using namespace tessera::model;

class CopyQueries : public LayerAttention {
 public:
  void attend(const Call& call, tessera::Tensor& out) override {
    std::copy_n(call.queries.data<float>(), call.queries.elements(), out.data<float>());
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const GgufFile file = GgufFile::parse(std::as_bytes(std::span(data, size)), "fuzz.gguf", nullptr);
    const Transformer transformer = Transformer::from_gguf(file);
    tessera::ThreadPool one_thread(1);
    CopyQueries attention;
    transformer.forward(std::array<int32_t, 2>{0, 0}, 100, attention, {.pool = &one_thread});
  } catch (const tessera::Error&) {
  }
  return 0;
}
