#include "model/tokenizer_patterns.h"

#include <algorithm>
#include <array>
#include <string>

#include "model/quote.h"
#include "tessera/base/error.h"

namespace tessera::model {
namespace {

constexpr std::string_view kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kSingleDigit = R"(\p{N})";
constexpr std::string_view kDigitTriple = R"(\p{N}{1,3})";
constexpr std::string_view kDigitRun = R"(\p{N}+)";
// The three that llama.cpp applies beside GPT-2's when a file says "default".
constexpr std::string_view kPunctuationRun = R"([\p{P}\$\+<=>\^~\|]+)";
constexpr std::string_view kAsciiDigitTriple = "[0-9][0-9][0-9]";

constexpr std::array kKnown = {kGpt2, kLlama3, kQwen2, kQwen35, kSingleDigit, kDigitTriple, kDigitRun};

enum class Family { fallback, gpt2, digits_gpt2, llama3, llama3_merging, qwen2, qwen2_plain, qwen35 };

struct Name {
  std::string_view pre;
  Family family;
};

constexpr std::array kNames = {Name{"default", Family::fallback},
                               Name{"gpt-2", Family::gpt2},
                               Name{"phi-2", Family::gpt2},
                               Name{"olmo", Family::gpt2},
                               Name{"mpt", Family::gpt2},
                               Name{"smollm", Family::digits_gpt2},
                               Name{"starcoder", Family::digits_gpt2},
                               Name{"refact", Family::digits_gpt2},
                               Name{"command-r", Family::digits_gpt2},
                               Name{"codeshell", Family::digits_gpt2},
                               Name{"llama-bpe", Family::llama3},
                               Name{"llama3", Family::llama3},
                               Name{"llama-v3", Family::llama3},
                               Name{"falcon3", Family::llama3},
                               Name{"dbrx", Family::llama3_merging},
                               Name{"smaug-bpe", Family::llama3_merging},
                               Name{"glm4", Family::llama3_merging},
                               Name{"chatglm-bpe", Family::llama3_merging},
                               Name{"qwen2", Family::qwen2},
                               Name{"stablelm2", Family::qwen2_plain},
                               Name{"deepseek-r1-qwen", Family::qwen2_plain},
                               Name{"qwen35", Family::qwen35}};

GgufPreTokenizer make(Family family) {
  switch (family) {
    case Family::fallback:
      return {.patterns = {kPunctuationRun, kGpt2, kDigitRun, kAsciiDigitTriple}};
    case Family::gpt2:
      return {.patterns = {kGpt2}};
    case Family::digits_gpt2:
      return {.patterns = {kSingleDigit, kGpt2}};
    case Family::llama3:
      return {.patterns = {kLlama3}, .ignore_merges = true, .add_bos = true};
    case Family::llama3_merging:
      return {.patterns = {kLlama3}};
    case Family::qwen2:
      return {.patterns = {kQwen2}, .normal_form_c = true};
    case Family::qwen2_plain:
      return {.patterns = {kQwen2}};
    case Family::qwen35:
      return {.patterns = {kQwen35}, .normal_form_c = true};
  }
  return {};
}

}  // namespace

std::string_view gpt2_word_pattern() { return kGpt2; }
std::string_view single_digit_pattern() { return kSingleDigit; }
std::string_view digit_run_pattern() { return kDigitRun; }

bool is_known_word_pattern(std::string_view pattern) {
  return std::find(kKnown.begin(), kKnown.end(), pattern) != kKnown.end();
}

GgufPreTokenizer gguf_pre_tokenizer(std::string_view pre, std::string_view file) {
  const auto* const name = std::find_if(kNames.begin(), kNames.end(), [&](const Name& n) { return n.pre == pre; });
  if (name != kNames.end()) return make(name->family);
  std::string known;
  for (const Name& each : kNames) known.append(known.empty() ? "" : ", ").append(each.pre);
  throw Error(ErrorCode::unsupported, "{}: pre-tokenizer {} (tokenizer.ggml.pre) is not supported; known are {}", file,
              quote(pre), known);
}

}  // namespace tessera::model
