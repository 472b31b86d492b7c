#include "tessera/experts/answers.h"

#include <algorithm>
#include <cmath>

#include "tessera/base/error.h"

namespace tessera::experts {
namespace {

constexpr double kSumTolerance = 1e-3;

void check_block(const float* values, size_t size, int64_t input, size_t expert, std::string_view name) {
  double sum = 0;
  for (size_t k = 0; k < size; ++k) {
    if (!(values[k] >= 0) || !std::isfinite(values[k])) {
      throw Error(ErrorCode::bad_file,
                  "{}: input {}, expert {}: expected a probability in [0, 1], found {}; give probabilities, not logits",
                  name, input, expert, values[k]);
    }
    sum += static_cast<double>(values[k]);
  }
  if (std::abs(sum - 1) > kSumTolerance) {
    throw Error(ErrorCode::bad_file, "{}: input {}, expert {}: the {} probabilities sum to {:.6g}; expected 1", name,
                input, expert, size, sum);
  }
}

}  // namespace

int64_t answer_columns(const Design& design) {
  int64_t columns = 0;
  for (const auto& set : design.sets) columns += static_cast<int64_t>(set.size());
  return columns;
}

std::vector<int32_t> answer_offsets(const Design& design) {
  std::vector<int32_t> offsets{0};
  for (const auto& set : design.sets) offsets.push_back(offsets.back() + static_cast<int32_t>(set.size()));
  return offsets;
}

std::vector<int32_t> class_degrees(const Design& design) {
  std::vector<int32_t> degrees(static_cast<size_t>(design.classes), 0);
  for (const auto& set : design.sets) {
    for (const int item : set) ++degrees[static_cast<size_t>(item)];
  }
  return degrees;
}

void check_answers(const Design& design, const Answers& answers, std::string_view name) {
  const size_t experts = design.sets.size();
  const auto inputs = static_cast<size_t>(answers.inputs);
  const auto columns = static_cast<size_t>(answer_columns(design));
  const auto expect = [&](size_t found, size_t wanted, const char* what) {
    if (found == 0 || found == wanted) return;
    throw Error(ErrorCode::bad_file, "{}: expected {} {} ({} inputs), found {}", name, wanted, what, inputs, found);
  };
  expect(answers.probabilities.size(), inputs * columns, "probabilities");
  expect(answers.labels.size(), inputs * experts, "labels");
  expect(answers.gate.size(), inputs * experts, "gate values");
  if (answers.probabilities.empty() && answers.labels.empty() && inputs > 0) {
    throw Error(ErrorCode::bad_file, "{}: holds neither labels nor probabilities", name);
  }
  const std::vector<int32_t> offsets = answer_offsets(design);
  for (size_t i = 0; i < inputs; ++i) {
    for (size_t j = 0; j < experts; ++j) {
      const auto& set = design.sets[j];
      if (!answers.probabilities.empty()) {
        check_block(answers.probabilities.data() + i * columns + static_cast<size_t>(offsets[j]), set.size(),
                    static_cast<int64_t>(i), j, name);
      }
      const int32_t label = answers.labels.empty() ? -1 : answers.labels[i * experts + j];
      if (label != -1 && !std::binary_search(set.begin(), set.end(), label)) {
        throw Error(ErrorCode::bad_file, "{}: input {}, expert {}: class {} is not in the expert's set", name, i, j,
                    label);
      }
      const float gate = answers.gate.empty() ? 1.0F : answers.gate[i * experts + j];
      if (!(gate >= 0 && gate <= 1)) {
        throw Error(ErrorCode::bad_file, "{}: input {}, expert {}: expected a gate in [0, 1], found {}", name, i, j,
                    gate);
      }
    }
  }
}

std::vector<int32_t> most_probable(const Design& design, const Answers& answers) {
  const size_t experts = design.sets.size();
  const std::vector<int32_t> offsets = answer_offsets(design);
  std::vector<int32_t> labels(static_cast<size_t>(answers.inputs) * experts);
  const float* row = answers.probabilities.data();
  for (size_t i = 0; i < static_cast<size_t>(answers.inputs); ++i, row += offsets.back()) {
    for (size_t j = 0; j < experts; ++j) {
      const float* begin = row + offsets[j];
      labels[i * experts + j] =
          design.sets[j][static_cast<size_t>(std::max_element(begin, row + offsets[j + 1]) - begin)];
    }
  }
  return labels;
}

}  // namespace tessera::experts
