// Streams of tokens: whole characters, stop strings, the first space.
#include <gmock/gmock.h>

#include <map>
#include <random>

#include "model/text/utf8.h"
#include "model/tokenizer_support.h"

namespace tessera::model {
namespace {

// A tokenizer whose tokens are given one by one.
class ListedTokens : public Tokenizer {
 public:
  explicit ListedTokens(std::vector<std::string> tokens, bool strips = false)
      : tokens_(std::move(tokens)), strips_(strips) {}
  std::vector<int32_t> encode(std::string_view, const EncodeOptions&) const override { return {}; }
  std::string token_bytes(int32_t token) const override { return tokens_.at(static_cast<size_t>(token)); }
  std::string decode(std::span<const int32_t> tokens) const override {
    std::string text;
    for (const int32_t token : tokens) text += token_bytes(token);
    return text;
  }
  int64_t vocabulary() const override { return static_cast<int64_t>(tokens_.size()); }
  int32_t find(std::string_view) const override { return -1; }
  int32_t bos() const override { return -1; }
  int32_t eos() const override { return -1; }
  bool strips_first_space() const override { return strips_; }

 private:
  std::vector<std::string> tokens_;
  bool strips_;
};

std::vector<std::string> stream(const std::vector<std::string>& tokens, const std::vector<std::string>& stops = {},
                                bool strips = false) {
  const ListedTokens listed(tokens, strips);
  Detokenizer detokenizer(listed, stops);
  std::vector<std::string> shown;
  for (size_t i = 0; i < tokens.size(); ++i) shown.push_back(detokenizer.push(static_cast<int32_t>(i)));
  shown.push_back(detokenizer.finish());
  return shown;
}

using testing::ElementsAre;

TEST(Detokenizer, HoldsBackUnfinishedCharacters) {
  EXPECT_THAT(stream({"a\xE4", "\xB8", "\x96 b"}), ElementsAre("a", "", "\xE4\xB8\x96 b", ""));
  EXPECT_THAT(stream({"\xF0\x9F", "\x98", "\x80"}), ElementsAre("", "", "\xF0\x9F\x98\x80", ""));
}

TEST(Detokenizer, ReplacesWhatIsNotUtf8) {
  EXPECT_THAT(stream({"a\xE4", "b"}), ElementsAre("a",
                                                  "\xEF\xBF\xBD"
                                                  "b",
                                                  ""));
  EXPECT_THAT(stream({"\x80", "\xFF!"}), ElementsAre("\xEF\xBF\xBD", "\xEF\xBF\xBD!", ""));
  EXPECT_THAT(stream({"x\xE4\xB8"}), ElementsAre("x", "\xEF\xBF\xBD"));
  EXPECT_THAT(stream({"\xED\xA0", "\x80"}), ElementsAre("\xEF\xBF\xBD\xEF\xBF\xBD", "\xEF\xBF\xBD", ""));
}

TEST(Detokenizer, StopsAcrossTokens) {
  EXPECT_THAT(stream({"one", "\nQ", "ues", "tion: x", "more"}, {"\nQuestion:"}),
              ElementsAre("one", "", "", "", "", ""));
  EXPECT_THAT(stream({"a\n", "Que", "er"}, {"\nQuestion:"}), ElementsAre("a", "", "\nQueer", ""));
  EXPECT_THAT(stream({"aab", "aac"}, {"aabaaa", "c"}), ElementsAre("", "aabaa", ""));
}

TEST(Detokenizer, TheEarliestStopCounts) {
  EXPECT_THAT(stream({"abcdef"}, {"ef", "cd"}), ElementsAre("ab", ""));
  EXPECT_THAT(stream({"abcd"}, {"bcd", "ab"}), ElementsAre("", ""));
}

TEST(Detokenizer, WhatMightHaveBecomeAStopIsShownAtTheEnd) {
  EXPECT_THAT(stream({"text<", "end"}, {"<end>"}), ElementsAre("text", "", "<end"));
}

TEST(Detokenizer, SaysThatItStopped) {
  const ListedTokens listed({"a", "STOP", "b"});
  Detokenizer detokenizer(listed, {"STOP", ""});
  EXPECT_EQ(detokenizer.push(0), "a");
  EXPECT_FALSE(detokenizer.stopped());
  EXPECT_EQ(detokenizer.push(1), "");
  EXPECT_TRUE(detokenizer.stopped());
  EXPECT_EQ(detokenizer.push(2), "");
  EXPECT_EQ(detokenizer.finish(), "");
}

// The second character begins as the stop string does, and as a whole it may begin one.
TEST(Detokenizer, StopStringsMayPartWithinACharacter) {
  EXPECT_THAT(stream({"\xC3", "\xA9t\xC3\xA9", "t!"}, {"\xC3\xA9t\xC3\xA8"}),
              ElementsAre("", "\xC3\xA9t", "\xC3\xA9t!", ""));
}

TEST(Detokenizer, TheFirstSpaceOfSentencePieceIsNotText) {
  EXPECT_THAT(stream({"", " Hello", " world"}, {}, true), ElementsAre("", "Hello", " world", ""));
  EXPECT_THAT(stream({"  two"}, {}, true), ElementsAre(" two", ""));
  EXPECT_THAT(stream({" ", " x"}, {}, true), ElementsAre("", " x", ""));
  EXPECT_THAT(stream({" Hello"}, {}, false), ElementsAre(" Hello", ""));
}

// However a text is cut into tokens, the stream shows the text up to the first stop string.
TEST(Detokenizer, CutsDoNotMatter) {
  std::mt19937 random(11);
  const std::vector<std::string> units = {"a",    "b",   "ab", "\xC3\xA9", "\xE4\xB8\x96", "\xF0\x9F\x98\x80",
                                          "\xFF", "\xE4"};
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (uint32_t i = random() % 12; i > 0; --i) text += units[random() % units.size()];
    std::vector<std::string> stops;
    for (uint32_t i = random() % 3; i > 0; --i) stops.push_back(units[random() % 6] + units[random() % 6]);
    std::vector<std::string> tokens;
    for (size_t at = 0; at < text.size(); at += tokens.back().size())
      tokens.push_back(text.substr(at, 1 + random() % 4));
    size_t end = text.size();
    for (const std::string& stop : stops) end = std::min(end, text.find(stop));
    std::string shown;
    for (const std::string& piece : stream(tokens, stops)) shown += piece;
    EXPECT_EQ(shown, text::replace_invalid(text.substr(0, end)));
  }
}

}  // namespace
}  // namespace tessera::model
