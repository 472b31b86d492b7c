#include "scbench/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tessera/base/error.h"

namespace tessera::scbench {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class DatasetTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& file, const std::string& content) const { std::ofstream(folder_ / file) << content; }

  Dataset read(const std::string& task, const DatasetOptions& options = {}) const {
    DatasetOptions one = options;
    one.tasks = {task};
    return read_datasets(folder_, one).at(0);
  }

  std::string error_of(ErrorCode code, const std::vector<std::string>& tasks) const {
    try {
      read_datasets(folder_, {.tasks = tasks, .examples = 20, .turns = 5, .excess_tokens = {}});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "expected an Error";
    return {};
  }

  std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) /
      ("dataset_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
};

TEST_F(DatasetTest, KeyValueRows) {
  write(
      "scbench_kv.jsonl",
      R"({"id": 1, "context": "{}", "multi_turns": [{"input": "key a?", "answer": "v-1"}, {"input": "key b?", "answer": "v-2"}]}

{"id": 2, "context": "{..}", "multi_turns": [{"input": "key c?", "answer": "v-3"}]})");
  const Dataset dataset = read("kv");
  ASSERT_EQ(dataset.examples.size(), 2U);
  EXPECT_EQ(dataset.task->name(), "kv");
  const Example& example = dataset.examples[0];
  EXPECT_THAT(example.head, testing::EndsWith("\n\n"));
  EXPECT_EQ(example.context, "{}");
  ASSERT_EQ(example.turns.size(), 2U);
  EXPECT_EQ(example.turns[1].input, "\n\nkey b?");
  EXPECT_EQ(example.turns[1].answer, " v-2");
  EXPECT_EQ(dataset.task->score("it is v-2", example.turns[1]), 1);
  EXPECT_EQ(read("kv", {.tasks = {}, .examples = 1, .turns = 1, .excess_tokens = {}}).examples.at(0).turns.size(), 1U);
}

TEST_F(DatasetTest, RowsWithoutInstruction) {
  write("scbench_prefix_suffix.jsonl", R"({"input": "abc\ndef", "multi_turns": [{"input": "a..c", "answer": "abc"}]})");
  const Example example = read("prefix-suffix").examples.at(0);
  EXPECT_EQ(example.head, "");
  EXPECT_EQ(example.context, "abc\ndef");
}

TEST_F(DatasetTest, VariableTrackingTakesListsOfNames) {
  write(
      "scbench_vt.jsonl",
      R"({"id": 0, "context": "VAR A = 1", "multi_turns": [{"input": "1?", "answer": ["AAAAA", "BBBBB", "CCCCC"]}]})");
  const Dataset dataset = read("vt");
  const Turn& turn = dataset.examples.at(0).turns.at(0);
  EXPECT_THAT(turn.accepted, ElementsAre("AAAAA", "BBBBB", "CCCCC"));
  EXPECT_EQ(turn.answer, " AAAAA BBBBB CCCCC");
  EXPECT_EQ(dataset.task->score("aaaaa ccccc", turn), 0.67);
}

TEST_F(DatasetTest, MathFindDerivesItsQuestion) {
  write(
      "scbench_mf.jsonl",
      R"({"id": 0, "context": [5, -3, 12], "multi_turns": [{"input": "The maximum number is", "answer": 12}, {"input": "Average:", "answer": 4.5}]})");
  const Dataset dataset = read("mf");
  const Example& example = dataset.examples.at(0);
  EXPECT_EQ(example.context, "[5, -3, 12]");
  EXPECT_EQ(example.turns[0].input, "\n\nWhat is the maximum number?\n\nThe maximum number is");
  EXPECT_EQ(example.turns[1].input, "\n\nAverage:");
  EXPECT_EQ(dataset.task->score("-12", example.turns[0]), 1);
  EXPECT_EQ(dataset.task->score("4.5", example.turns[1]), 1);
}

TEST_F(DatasetTest, ManyShotInBothScorings) {
  write("scbench_many_shot.jsonl",
        R"row({"id": 0, "task": "date", "context": "Q A", "multi_turns": [{"input": "Q?", "answer": "(B)"}]})row");
  const Dataset dataset = read("many-shot");
  const Turn& turn = dataset.examples.at(0).turns.at(0);
  EXPECT_EQ(dataset.task->score("(C)", turn, Scoring::intended), 0);
  EXPECT_EQ(dataset.task->score("(C)", turn, Scoring::compat), 1);
}

TEST_F(DatasetTest, LongRowsAreLeftOutAndCounted) {
  write("scbench_kv.jsonl", R"({"context": "a long one", "multi_turns": [{"input": "?", "answer": "1"}]}
{"context": "short", "multi_turns": [{"input": "?", "answer": "2"}]})");
  const auto excess = [](int64_t most) {
    return [most](const Task&, const Example& example) { return static_cast<int64_t>(example.context.size()) - most; };
  };
  const Dataset dataset = read("kv", {.tasks = {}, .examples = 5, .turns = 5, .excess_tokens = excess(7)});
  EXPECT_EQ(dataset.dropped, 1);
  EXPECT_EQ(dataset.examples.at(0).context, "short");
  try {
    read("kv", {.tasks = {}, .examples = 5, .turns = 5, .excess_tokens = excess(2)});
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::limit_exceeded);
    EXPECT_THAT(error.what(), HasSubstr("at least 3 tokens"));
  }
}

TEST_F(DatasetTest, DamagedLinesNameFileAndLine) {
  const std::string good = R"({"context": "c", "multi_turns": [{"input": "?", "answer": "1"}]})";
  const std::vector<std::string> damaged = {
      good.substr(0, 30),
      "7",
      "[]",
      "{}",
      R"({"context": "c"})",
      R"({"context": "c", "multi_turns": []})",
      R"({"context": "c", "multi_turns": [3]})",
      R"({"context": "c", "multi_turns": [{"input": "?"}]})",
      R"({"context": "c", "multi_turns": [{"input": "?", "answer": ""}]})",
      R"({"context": "c", "multi_turns": [{"input": "?", "answer": null}]})",
      R"({"context": "c", "multi_turns": [{"input": "?", "answer": ["1", "2"]}]})",
      R"({"context": ["x"], "multi_turns": [{"input": "?", "answer": "1"}]})",
      R"({"multi_turns": [{"input": "?", "answer": "1"}]})",
      R"({"context": null, "multi_turns": [{"input": "?", "answer": "1"}]})",
      "\xFF\xFE",
      std::string(100000, '[')};
  for (const std::string& line : damaged) {
    write("scbench_kv.jsonl", good + "\n" + line + "\n");
    EXPECT_THAT(error_of(ErrorCode::bad_file, {"kv"}), HasSubstr("scbench_kv.jsonl:2")) << line.substr(0, 80);
  }
  write("scbench_kv.jsonl", "");
  EXPECT_THAT(error_of(ErrorCode::bad_file, {"kv"}), HasSubstr("found none"));
}

TEST_F(DatasetTest, OtherFilesAreRefusedByName) {
  EXPECT_THAT(error_of(ErrorCode::not_found, {}), HasSubstr("scbench_many_shot.jsonl"));
  write("scbench_qa_eng.jsonl", "{}");
  EXPECT_THAT(error_of(ErrorCode::unsupported, {}),
              testing::AllOf(HasSubstr("scbench_kv.jsonl"), HasSubstr("scbench_qa_eng.jsonl")));
  EXPECT_THAT(error_of(ErrorCode::unsupported, {"passkey"}), HasSubstr("scbench_kv.jsonl"));
  error_of(ErrorCode::not_found, {"kv"});
  write("scbench_kv.jsonl", R"({"context": "c", "multi_turns": [{"input": "?", "answer": "1"}]})");
  EXPECT_EQ(read_datasets(folder_, {}).size(), 1U);
}

TEST(Dataset, MissingFolder) {
  try {
    read_datasets("/nonexistent/scbench", {});
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::not_found);
  }
}

}  // namespace
}  // namespace tessera::scbench
