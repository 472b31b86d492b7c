#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/text/regex.h"

#include <pcre2.h>

#include "tessera/base/error.h"

namespace tessera::model::text {
namespace {

constexpr std::string_view kWhiteSpace =
    R"(\x09-\x0D\x20\x85\xA0\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

// Spells out \s and \S. No pattern of ours has \S inside brackets.
std::string spell_out_white_space(std::string_view pattern) {
  std::string result;
  bool in_brackets = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      if (escaped == 's' && in_brackets) {
        result += kWhiteSpace;
      } else if (escaped == 's' || escaped == 'S') {
        TESSERA_ASSERT(!in_brackets);
        result.append(escaped == 's' ? "[" : "[^").append(kWhiteSpace).append("]");
      } else {
        result.append({'\\', escaped});
      }
      continue;
    }
    if (pattern[i] == '[') in_brackets = true;
    if (pattern[i] == ']') in_brackets = false;
    result += pattern[i];
  }
  return result;
}

// What a match needs besides the pattern; one per thread.
struct Scratch {
  pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 * 1024, 8 * 1024 * 1024, nullptr);

  Scratch() { pcre2_jit_stack_assign(context, nullptr, stack); }
  ~Scratch() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(match);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

}  // namespace

struct Regex::Compiled {
  pcre2_code* code = nullptr;
  ~Compiled() { pcre2_code_free(code); }
};

Regex::Regex(std::string_view pattern) : compiled_(std::make_unique<Compiled>()) {
  const std::string spelled = spell_out_white_space(pattern);
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  compiled_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(spelled.data()), spelled.size(), PCRE2_UTF | PCRE2_UCP,
                                  &error, &error_offset, nullptr);
  TESSERA_ASSERT(compiled_->code != nullptr);
  pcre2_jit_compile(compiled_->code, PCRE2_JIT_COMPLETE);  // without a JIT, pcre2_match interprets
}

Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

void Regex::split(std::string_view text, std::vector<std::string_view>& pieces) const {
  thread_local Scratch scratch;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(scratch.match);
  size_t at = 0;
  while (at < text.size()) {
    const int found = pcre2_match(compiled_->code, subject, text.size(), at, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY,
                                  scratch.match, scratch.context);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) throw Error(ErrorCode::limit_exceeded, "text cannot be split into words: PCRE2 error {}", found);
    if (range[0] > at) pieces.push_back(text.substr(at, range[0] - at));
    pieces.push_back(text.substr(range[0], range[1] - range[0]));
    at = range[1];
  }
  if (at < text.size()) pieces.push_back(text.substr(at));
}

}  // namespace tessera::model::text
