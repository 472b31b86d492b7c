// Tokens that are looked for in the text itself, before it is split into words: control tokens and added words.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::model {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;      // a control token: parsed only on request, left out when decoding
  bool strip_left = false;   // takes the white space before it along
  bool strip_right = false;  // takes the white space after it along
  bool normalized = false;   // looked for in the normalised text
};

// Finds added tokens: at each place the longest, from left to right.
class AddedTokenFinder {
 public:
  // A stretch of text, or (id >= 0) a token that stands there.
  struct Part {
    std::string_view text;
    int32_t id = -1;
  };

  // Throws Error(bad_file) when a content is empty or longer than kLongest bytes.
  explicit AddedTokenFinder(std::vector<AddedToken> tokens = {});

  // Cuts `text`; text without any token comes back as one part, empty text as none. With parse_special off, control
  // tokens stay text. O(n * longest content).
  std::vector<Part> split(std::string_view text, bool parse_special) const;

  static constexpr size_t kLongest = 1024;

 private:
  // One node of the trie: children are a linked list over siblings.
  struct Node {
    int32_t token = -1;  // index into tokens_
    int32_t child = -1;
    int32_t sibling = -1;
    char byte = 0;
  };
  int32_t child_of(int32_t node, char byte) const;
  // Index of the longest token that starts `text`, or -1.
  int32_t longest_at(std::string_view text) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  std::vector<int32_t> roots_;  // [256] node of each first byte, or -1
};

}  // namespace tessera::model
