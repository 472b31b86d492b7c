// En.MultiChoice: questions on a book with four options. Real text: read from files, never generated.
#include "scbench/scorers.h"
#include "scbench/tasks/common.h"
#include "tessera/base/error.h"

namespace tessera::scbench {
namespace {

class Choice final : public Task {
 public:
  std::string name() const override { return "choice"; }
  std::string title() const override { return "En.MultiChoice"; }
  int64_t max_new_tokens(Vocabulary) const override { return 40; }

  Example generate(const ExampleOptions&, const TokenCounter&, Random&) const override {
    throw Error(ErrorCode::unsupported,
                "task choice: its books and questions are not generated; give a folder of SCBench's data");
  }

  // `accepted` = {option text, letter}
  double score(std::string_view prediction, const Turn& turn, Scoring scoring) const override {
    return score_choice(prediction, turn.accepted, scoring);
  }
};

}  // namespace

const Task& choice_task() {
  static const Choice task;
  return task;
}

}  // namespace tessera::scbench
