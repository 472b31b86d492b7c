// Data and answers for experts from untrusted files: any bytes give rows, answers, a design or an Error, never anything
// else.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "tessera/base/error.h"
#include "tessera/experts/answers_file.h"
#include "tessera/experts/dataset.h"
#include "tessera/experts/design_file.h"
#include "tessera/experts/learner.h"

namespace {

using namespace tessera;
using namespace tessera::experts;

template <typename Call>
void attempt(Call call) {
  try {
    call();
  } catch (const Error&) {
  }
}

void parse_answers_of(std::string_view bytes) {
  const DesignFile design{.design = {.classes = 3, .sets = {{0, 1}, {0, 2}, {1, 2}}}, .class_names = {"a", "b", "c"}};
  attempt([&] {
    const Answers answers = parse_answers(bytes, "input", design);
    (void)combine(design.design, answers, {.rule = answers.labels.empty() ? Rule::quadratic : Rule::deficit});
  });
}

}  // namespace

// The first byte chooses the reader.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 8) {
    case 0:
      attempt([&] { (void)parse_csv_dataset(bytes, "input", {}); });
      break;
    case 1:
      attempt([&] { (void)parse_libsvm(bytes, "input", {}); });
      break;
    case 2: {
      const size_t cut = bytes.size() / 2;
      attempt([&] { (void)parse_idx(bytes, bytes, "input"); });
      attempt([&] { (void)parse_idx(bytes.substr(0, cut), bytes.substr(cut), "input"); });
      break;
    }
    case 3:
      attempt([&] { (void)parse_cifar(bytes, "input"); });
      break;
    case 4:
      attempt([&] { (void)parse_npy_dataset(bytes, "input", {}); });
      attempt([&] { (void)inflate(bytes, "input", 1 << 20); });
      break;
    case 5:
      parse_answers_of(bytes);
      break;
    case 6:
      attempt([&] { (void)parse_design(bytes, "input"); });
      break;
    default:
      attempt([&] { (void)make_learner({})->load(bytes, "input"); });
      attempt([&] { (void)make_learner({})->load("TSEXPRT1" + std::string(bytes), "input"); });
  }
  return 0;
}
