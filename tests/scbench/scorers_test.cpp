// Vectors of the published scorers' rules and quirks.
#include "scbench/scorers.h"

#include <gtest/gtest.h>

namespace tessera::scbench {
namespace {

using Names = std::vector<std::string>;

TEST(Scorers, SubstringHasNoWordBoundary) {
  EXPECT_EQ(score_substring("the value is abc-1.", "abc-1"), 1);
  EXPECT_EQ(score_substring("xabc-12", "abc-1"), 1);
  EXPECT_EQ(score_substring("ABC-1", "abc-1"), 0);
  EXPECT_EQ(score_substring("", "abc"), 0);
}

TEST(Scorers, ShareIsRoundedAndIgnoresCase) {
  const Names names = {"ABCDE", "FGHIJ", "KLMNO"};
  EXPECT_EQ(score_share("abcde and FGHIJ", names), 0.67);
  EXPECT_EQ(score_share("Klmno", names), 0.33);
  EXPECT_EQ(score_share("ABCDEFGHIJKLMNO", names), 1);
  EXPECT_EQ(score_share("ABCD", names), 0);
  EXPECT_EQ(score_share("anything", Names{}), 0);
}

TEST(Scorers, FirstNumberIgnoresSignAndCutsDecimals) {
  EXPECT_EQ(score_first_number("-12", "12"), 1);
  EXPECT_EQ(score_first_number("it is 12.9, not 13", "12"), 1);
  EXPECT_EQ(score_first_number("12.", "12"), 1);
  EXPECT_EQ(score_first_number("13 or 12", "12"), 0);
  EXPECT_EQ(score_first_number("012", "12"), 1);
  EXPECT_EQ(score_first_number("12.5", "12.5"), 1);
  EXPECT_EQ(score_first_number("12.4", "12.5"), 0);
  EXPECT_EQ(score_first_number("twelve", "12"), 0);
  EXPECT_EQ(score_first_number(std::string(5000, '9'), "12"), 0);
}

TEST(Scorers, FirstRunOfDigitsMustBeTheLabel) {
  EXPECT_EQ(score_first_digits("The key is 71432.", "71432"), 1);
  EXPECT_EQ(score_first_digits("071432", "71432"), 0);
  EXPECT_EQ(score_first_digits("7 71432", "71432"), 0);
  EXPECT_EQ(score_first_digits("none", "71432"), 0);
  EXPECT_EQ(score_first_digits("none", ""), 0);
}

TEST(Scorers, ContainmentAsIntendedAndAsPublished) {
  EXPECT_EQ(score_containment("it is Amber", "amber", Scoring::intended), 1);
  EXPECT_EQ(score_containment("(B", "(A)", Scoring::intended), 0);
  EXPECT_EQ(score_containment("(B", "(A)", Scoring::compat), 1);  // shares "("
  EXPECT_EQ(score_containment("zzz", "amber", Scoring::compat), 0);
  EXPECT_EQ(score_containment("", "amber", Scoring::compat), 0);
}

TEST(Scorers, ChoiceReadsAWordThatBeginsWithAnOptionLetter) {
  const Names gold_b = {"the lighthouse", "B"};
  const Names gold_a = {"the ferry", "A"};
  EXPECT_EQ(score_choice("Because ...", gold_b, Scoring::compat), 1);
  EXPECT_EQ(score_choice("Because ...", gold_b, Scoring::intended), 0);
  for (const Scoring scoring : {Scoring::intended, Scoring::compat}) {
    EXPECT_EQ(score_choice(" B. the lighthouse", gold_b, scoring), 1);
    EXPECT_EQ(score_choice("B", gold_a, scoring), 0);
    EXPECT_EQ(score_choice("the lighthouse", gold_b, scoring), 1);
    EXPECT_EQ(score_choice("so the answer is: B", gold_b, scoring), 1);
    EXPECT_EQ(score_choice("so the answer is A", gold_b, scoring), 0);
    EXPECT_EQ(score_choice("it must be B here", gold_b, scoring), 1);
    EXPECT_EQ(score_choice("", gold_b, scoring), 0);
    EXPECT_EQ(score_choice("no letter", gold_b, scoring), 0);
  }
}

}  // namespace
}  // namespace tessera::scbench
