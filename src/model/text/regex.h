// A compiled regular expression that cuts text into pieces.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::model::text {

// Patterns are the program's own (tokenizer_patterns.h), never a file's: one that does not compile is an assertion.
// `\p{..}` follow the Unicode tables of PCRE2; `\s` and `\S` mean Unicode's White_Space, as in the tokenizers'
// reference implementation (PCRE2's own `\s` also takes U+180E).
class Regex {
 public:
  explicit Regex(std::string_view pattern);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  // Appends the matches and the text between them, in order; together they are `text`. `text` must be UTF-8.
  // Thread-safe.
  void split(std::string_view text, std::vector<std::string_view>& pieces) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace tessera::model::text
