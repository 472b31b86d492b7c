#include "tessera/engine/method.h"

#include "engine/method_registry.h"
#include "tessera/base/error.h"

namespace tessera::engine {
namespace {

// Splits "a(b=1, c=2) + d" into stages and arguments. Positions in messages count characters from 1.
class MethodParser {
 public:
  explicit MethodParser(std::string_view text) : text_(text) {}

  std::vector<StageText> parse() {
    std::vector<StageText> stages;
    do {
      stages.push_back(parse_stage());
    } while (accept('+'));
    if (at_ != text_.size()) fail("expected '+' or the end");
    return stages;
  }

 private:
  StageText parse_stage() {
    StageText stage{parse_word("a method name"), {}};
    if (!accept('(')) return stage;
    if (accept(')')) return stage;
    do {
      std::string key = parse_word("a parameter name");
      if (!accept('=')) fail("expected '=' after the parameter name");
      stage.arguments.emplace_back(std::move(key), parse_word("a value"));
    } while (accept(','));
    if (!accept(')')) fail("expected ',' or ')'");
    return stage;
  }

  std::string parse_word(const char* what) {
    skip_space();
    const size_t begin = at_;
    while (at_ < text_.size() && std::string_view("+(),= \t\n").find(text_[at_]) == std::string_view::npos) ++at_;
    if (at_ == begin) fail(fmt::format("expected {}", what));
    return std::string(text_.substr(begin, at_ - begin));
  }

  bool accept(char wanted) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != wanted) return false;
    ++at_;
    skip_space();
    return true;
  }

  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n')) ++at_;
  }

  [[noreturn]] void fail(const std::string& expected) const {
    const std::string found = at_ < text_.size() ? fmt::format("'{}'", text_[at_]) : "the end";
    throw Error(ErrorCode::invalid_argument, "method '{}': {} at character {}, found {}", text_, expected, at_ + 1, found);
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

Method Method::parse(std::string_view text) {
  Method method;
  const std::vector<StageText> stages = MethodParser(text).parse();
  for (const StageText& stage : stages) {
    if (stage.name == "dense") {
      if (stages.size() > 1 || !stage.arguments.empty()) {
        throw Error(ErrorCode::invalid_argument, "method '{}': 'dense' stands alone and has no parameters", text);
      }
      continue;
    }
    apply_stage(stage, text, method);
  }
  return method;
}

std::string Method::str() const {
  std::string text;
  const auto add = [&](const std::string& stage) { text += (text.empty() ? "" : " + ") + stage; };
  if (prefill) add(prefill->describe());
  if (cache) add(cache->describe());
  if (load) add(load->describe());
  return text.empty() ? "dense" : text;
}

}  // namespace tessera::engine
