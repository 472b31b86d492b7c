#include "tessera/scbench/task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "scbench/fake_tokens.h"
#include "scbench/tasks/common.h"
#include "scbench/words_grammar.h"
#include "tessera/base/error.h"

namespace tessera::scbench {
namespace {

using testing::IsEmpty;

struct Case {
  std::string task;
  Vocabulary vocabulary;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.task << (c.vocabulary == Vocabulary::words ? " words" : " uuid");
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const std::string& task : task_names()) {
    cases.push_back({task, Vocabulary::words});
    cases.push_back({task, Vocabulary::uuid});
  }
  return cases;
}

class TaskTest : public testing::TestWithParam<Case> {
 protected:
  Example make(int64_t tokens, int turns, uint64_t seed = 7, int64_t index = 0) const {
    Random random = example_random(seed, GetParam().task, index);
    return task().generate({.tokens = tokens, .turns = turns, .vocabulary = GetParam().vocabulary}, count_pieces,
                           random);
  }
  const Task& task() const { return find_task(GetParam().task); }
};

TEST_P(TaskTest, FillsTheLengthAndNeverExceedsIt) {
  for (const int64_t tokens : {700, 1000, 4096, 4099, 32768}) {
    const int64_t used = count_pieces(full_text(make(tokens, 5)));
    EXPECT_LE(used, tokens);
    EXPECT_GT(static_cast<double>(used), (tokens >= 4096 ? 0.97 : 0.9) * static_cast<double>(tokens));
  }
}

TEST_P(TaskTest, SameSeedSameExample) {
  EXPECT_EQ(full_text(make(2000, 4)), full_text(make(2000, 4)));
  EXPECT_NE(full_text(make(2000, 4, 7, 0)), full_text(make(2000, 4, 7, 1)));
  EXPECT_NE(full_text(make(2000, 4, 7, 0)), full_text(make(2000, 4, 8, 0)));
}

TEST_P(TaskTest, DoesNotDependOnWhatWasDrawnBefore) {
  Random fresh = example_random(1, GetParam().task, 0);
  Random used = example_random(1, GetParam().task, 0);
  used.bits();
  const ExampleOptions options{.tokens = 1500, .turns = 2, .vocabulary = GetParam().vocabulary};
  EXPECT_EQ(full_text(task().generate(options, count_pieces, fresh)),
            full_text(task().generate(options, count_pieces, used)));
}

TEST_P(TaskTest, GoldenAnswersScoreOneAndAreInTheContext) {
  for (int64_t index = 0; index < 10; ++index) {
    const Example example = make(1500, 5, 3, index);
    EXPECT_EQ(example.task, GetParam().task);
    ASSERT_EQ(example.turns.size(), 5U);
    std::set<std::string> inputs;
    for (const Turn& turn : example.turns) {
      EXPECT_EQ(task().score(turn.answer, turn), 1);
      EXPECT_EQ(task().score(turn.answer, turn, Scoring::compat), 1);
      EXPECT_EQ(task().score("", turn), 0);
      EXPECT_TRUE(turn.answer.starts_with(" "));
      EXPECT_TRUE(turn.input.starts_with("\n"));
      for (const std::string& accepted : turn.accepted) {
        EXPECT_NE(example.context.find(accepted), std::string::npos) << accepted;
        EXPECT_EQ(turn.input.find(accepted + " "), std::string::npos)
            << "the question gives the answer away: " << accepted;
      }
      inputs.insert(turn.input);
    }
    EXPECT_EQ(inputs.size(), 5U);
  }
}

TEST_P(TaskTest, OtherAnswersScoreZero) {
  const Example example = make(2000, 4);
  for (size_t a = 0; a < 4; ++a) {
    for (size_t b = 0; b < 4; ++b) {
      const bool same = example.turns[a].accepted == example.turns[b].accepted;
      EXPECT_EQ(task().score(example.turns[a].answer, example.turns[b]), same ? 1 : 0);
    }
  }
}

TEST_P(TaskTest, OneTurnAndTheMostTurns) {
  EXPECT_EQ(make(1200, 1).turns.size(), 1U);
  EXPECT_EQ(make(6000, 5).turns.size(), 5U);
  EXPECT_THROW(make(4000, 0), Error);
  EXPECT_THROW(make(400000, 2000), Error);
}

TEST_P(TaskTest, TooShortIsAnError) {
  try {
    make(20, 5);
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_THAT(error.what(), testing::HasSubstr(GetParam().task));
  }
}

TEST_P(TaskTest, AnyBytesAreAValidPrediction) {
  const Turn turn = make(1200, 1).turns[0];
  for (const std::string& bytes :
       {std::string("\0\xFF\xFE", 3), std::string(100000, '9'), std::string("-.,.9."), std::string("9.")}) {
    const double score = task().score(bytes, turn);
    EXPECT_GE(score, 0);
    EXPECT_LE(score, 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Tasks, TaskTest, testing::ValuesIn(all_cases()), [](const auto& instance) {
  std::string name = instance.param.task + (instance.param.vocabulary == Vocabulary::words ? "_words" : "_uuid");
  std::erase(name, '-');
  return name;
});

class WordsTest : public testing::TestWithParam<std::string> {};

TEST_P(WordsTest, FollowsTheGrammar) {
  for (const int64_t tokens : {300, 1111, 8000}) {
    for (int turns = 1; turns <= 5; ++turns) {
      Random random = example_random(static_cast<uint64_t>(turns), GetParam(), tokens);
      const Example example =
          find_task(GetParam())
              .generate({.tokens = tokens, .turns = turns, .vocabulary = Vocabulary::words}, count_pieces, random);
      EXPECT_THAT(words_faults(example), IsEmpty());
    }
  }
}

// The checker itself must notice damage.
TEST_P(WordsTest, TheGrammarCheckerNoticesDamage) {
  Random random = example_random(5, GetParam(), 0);
  const Example good =
      find_task(GetParam())
          .generate({.tokens = 800, .turns = 2, .vocabulary = Vocabulary::words}, count_pieces, random);
  Example other_answer = good;
  other_answer.turns[0].answer = " 1000000";
  EXPECT_FALSE(words_faults(other_answer).empty());
  Example doubled_space = good;
  doubled_space.context.insert(doubled_space.context.rfind(' '), " ");
  EXPECT_FALSE(words_faults(doubled_space).empty());
  Example same_question = good;
  same_question.turns[1] = same_question.turns[0];
  EXPECT_FALSE(words_faults(same_question).empty());
}

INSTANTIATE_TEST_SUITE_P(Tasks, WordsTest, testing::ValuesIn(task_names()), [](const auto& instance) {
  std::string name = instance.param;
  std::erase(name, '-');
  return name;
});

TEST(Words, AreDistinctAndKnown) {
  EXPECT_EQ(word(0), "baba");
  EXPECT_EQ(word(1), "lonu");  // j = 1999 = 28 * 70 + 39
  EXPECT_EQ(word(2799), "veme");
  std::set<std::string> words;
  for (int64_t i = 0; i < kWords; ++i) words.insert(word(i));
  EXPECT_EQ(static_cast<int64_t>(words.size()), kWords);
}

TEST(Targets, AreSpreadOverTheContext) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Random random(seed);
    const std::vector<int64_t> targets = spread_targets(100, 5, random);
    std::set<int64_t> parts;
    for (const int64_t target : targets) parts.insert(target * 5 / 100);
    EXPECT_EQ(parts.size(), 5U);
  }
  Random random(0);
  EXPECT_THAT(spread_targets(3, 3, random), testing::UnorderedElementsAre(0, 1, 2));
}

TEST(Uuid, HasVersionFourAndItsVariant) {
  Random random(1);
  for (int i = 0; i < 100; ++i) {
    const std::string uuid = random_uuid(random);
    ASSERT_EQ(uuid.size(), 36U);
    EXPECT_EQ(uuid[14], '4');
    EXPECT_NE(std::string("89ab").find(uuid[19]), std::string::npos);
  }
}

TEST(PrefixSuffixStrings, OneEntryMatchesEachQuestion) {
  Random random = example_random(9, "prefix-suffix", 0);
  const Example example =
      find_task("prefix-suffix")
          .generate({.tokens = 60000, .turns = 8, .vocabulary = Vocabulary::uuid}, count_pieces, random);
  std::vector<std::string> strings;
  for (size_t begin = 0; begin <= example.context.size();) {
    const size_t end = std::min(example.context.find('\n', begin), example.context.size());
    strings.push_back(example.context.substr(begin, end - begin));
    begin = end + 1;
  }
  for (const Turn& turn : example.turns) {
    const std::string question = turn.input.substr(turn.input.find("begins with ") + 12);
    const std::string prefix = question.substr(0, question.find(" and ends with "));
    const std::string rest = question.substr(prefix.size() + 15);
    const std::string suffix = rest.substr(0, rest.find(" ?"));
    int matches = 0;
    for (const std::string& text : strings) matches += text.starts_with(prefix) && text.ends_with(suffix) ? 1 : 0;
    EXPECT_EQ(matches, 1) << turn.input;
  }
}

TEST(FindTask, ListsTheNames) {
  EXPECT_EQ(find_task("vt").title(), "Retr.MultiHop");
  try {
    find_task("kvv");
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("kv, prefix-suffix, vt, mf, many-shot, passkey"));
  }
}

}  // namespace
}  // namespace tessera::scbench
