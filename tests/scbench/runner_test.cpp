// The whole run on a fake model: what is stored, what a resumed run adds, what it refuses.
#include "scbench/runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "scbench/fake_model.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"

namespace tessera::scbench {
namespace {

using testing::HasSubstr;

class RunnerTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::remove_all(out_); }
  void TearDown() override { std::filesystem::remove_all(out_); }

  // Two methods: one that answers and one that answers the first turn only. `fail_after`: the number of answers after
  // which the machine breaks down.
  BenchModel model(int64_t fail_after = 1 << 30) {
    const auto answers = std::make_shared<int64_t>(fail_after);
    const auto guarded = [this, answers](Oracle oracle) {
      return [this, answers, oracle] {
        return std::make_unique<FakeConversation>(tokenizer_, [answers, oracle](const std::string& history) {
          if ((*answers)-- == 0) throw Error(ErrorCode::interrupted, "stopped");
          return oracle(history);
        });
      };
    };
    const Oracle forgetful = [](const std::string& history) {
      const bool first = history.find("\n?") == history.rfind("\n?");
      return first ? answer_key_value(history) : std::string(" \xFF zu\n");
    };
    BenchModel model{"fake", "digest-1", tokenizer_, {}, {}, {}};
    model.settings = {{"z", 1}, {"a", {{"y", 2}, {"b", 3}}}};  // not in alphabetical order
    model.methods = {{"dense", "dense", guarded(answer_key_value)},
                     {"forgetful", "forgetful(turns=1)", guarded(forgetful)}};
    return model;
  }

  BenchOptions options() const {
    BenchOptions options;
    options.tasks = {"kv"};
    options.length = 300;
    options.turns = 3;
    options.examples = 4;
    options.out = out_;
    options.vocabulary = Vocabulary::words;
    return options;
  }

  std::vector<std::string> stored() const {
    std::ifstream stream(out_ / "runs.jsonl");
    std::vector<std::string> lines;
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
  }

  // Lines without what is measured, sorted.
  std::multiset<std::string> turns_stored() const {
    std::multiset<std::string> turns;
    for (const std::string& line : stored()) {
      const RunLine run = read_run_line(line, "line");
      turns.insert(run.task + run.mode + run.method + std::to_string(run.example) + " " + std::to_string(run.turn) +
                   " " + std::to_string(run.score) + run.prediction + "|" + run.reference);
    }
    return turns;
  }

  template <typename Action>
  static std::string message_of(ErrorCode code, const Action& action) {
    try {
      action();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "expected an Error";
    return {};
  }

  FakeTokenizer tokenizer_;
  std::filesystem::path out_ = std::filesystem::path(testing::TempDir()) /
                               ("runner_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
};

TEST_F(RunnerTest, StoresEveryTurnWithTheNamesOfTheDesign) {
  const Summary summary = run_bench_on(model(), options());
  EXPECT_EQ(stored().size(), 4U * 3 * 2 * 2);
  EXPECT_EQ(summary.scored_turns, 48);
  EXPECT_EQ(summary.header.expected_turns, 48);
  const nlohmann::ordered_json first = nlohmann::ordered_json::parse(stored().front());
  std::vector<std::string> names;
  for (const auto& [name, value] : first.items()) names.push_back(name);
  EXPECT_THAT(names,
              testing::ElementsAre("task", "mode", "method", "model", "length", "example", "turn", "seed", "score",
                                   "prediction", "reference", "prompt_tokens", "reused_tokens", "prefill_ms",
                                   "decode_ms", "ttft_ms", "generated_tokens", "kv_bytes", "density", "skipped_mass"));
  EXPECT_EQ(first["model"], "fake");
  EXPECT_EQ(first["score"], 1);
  for (const char* file : {"config.json", "summary.json", "report.html"})
    EXPECT_TRUE(std::filesystem::exists(out_ / file));
  EXPECT_TRUE(read_json(out_ / "summary.json")["complete"]);
  EXPECT_EQ(read_json(out_ / "config.json")["settings"]["model_digest"], "digest-1");
}

TEST_F(RunnerTest, ScoresSeparateTheMethods) {
  const Summary summary = run_bench_on(model(), options());
  EXPECT_EQ(summary.find("kv", "dense", "multi-turn")->score.estimate, 1);
  const Cell* forgetful = summary.find("kv", "forgetful(turns=1)", "multi-turn");
  ASSERT_EQ(forgetful->turn_scores.size(), 3U);
  EXPECT_EQ(forgetful->turn_scores[0].estimate, 1);
  EXPECT_EQ(forgetful->turn_scores[1].estimate, 0);
  EXPECT_EQ(summary.find("kv", "forgetful(turns=1)", "multi-request")->score.estimate, 1);
}

TEST_F(RunnerTest, PromptsStayWithinTheLength) {
  BenchOptions wide = options();
  wide.history = History::generated;
  run_bench_on(model(), wide);
  for (const std::string& line : stored()) {
    const RunLine run = read_run_line(line, "line");
    EXPECT_LE(run.prompt_tokens + find_task("kv").max_new_tokens(Vocabulary::words), 300);
    EXPECT_GT(run.prompt_tokens, 200);
  }
}

// A run that breaks down anywhere and is resumed stores the same turns as one that was left alone.
TEST_F(RunnerTest, ResumeNeitherLosesNorRepeats) {
  run_bench_on(model(), options());
  const std::multiset<std::string> whole = turns_stored();
  for (const History history : {History::golden, History::generated}) {
    for (const int64_t fail_after : {0, 1, 4, 7, 20, 47}) {
      std::filesystem::remove_all(out_);
      BenchOptions again = options();
      again.history = history;
      message_of(ErrorCode::interrupted, [&] { run_bench_on(model(fail_after), again); });
      EXPECT_EQ(static_cast<int64_t>(stored().size()), fail_after);
      EXPECT_TRUE(std::filesystem::exists(out_ / "report.html"));
      again.resume = true;
      const Summary summary = run_bench_on(model(), again);
      EXPECT_EQ(summary.scored_turns, 48);
      if (history == History::golden) {
        EXPECT_EQ(turns_stored(), whole);
      }
    }
  }
}

// kill -9 while a line is written: what is left of it is cut off and the turn is done again.
TEST_F(RunnerTest, ResumeAfterATruncatedLine) {
  run_bench_on(model(), options());
  const std::multiset<std::string> whole = turns_stored();
  const std::string content = read_file(out_ / "runs.jsonl");
  BenchOptions again = options();
  again.resume = true;
  for (const size_t cut : {size_t{1}, size_t{30}, content.size() / 2, content.size() - 3}) {
    std::ofstream(out_ / "runs.jsonl", std::ios::binary) << content.substr(0, cut);
    run_bench_on(model(), again);
    EXPECT_EQ(turns_stored(), whole);
  }
}

TEST_F(RunnerTest, ResumingACompleteRunAddsNothing) {
  run_bench_on(model(), options());
  const std::string content = read_file(out_ / "runs.jsonl");
  BenchOptions again = options();
  again.resume = true;
  EXPECT_EQ(run_bench_on(model(0), again).scored_turns, 48);
  EXPECT_EQ(read_file(out_ / "runs.jsonl"), content);
}

TEST_F(RunnerTest, DamagedLinesNameFileAndLine) {
  run_bench_on(model(), options());
  std::vector<std::string> lines = stored();
  BenchOptions again = options();
  again.resume = true;
  const auto with = [&](const std::string& second) {
    std::ofstream stream(out_ / "runs.jsonl", std::ios::binary);
    stream << lines[0] << "\n" << second << "\n" << lines[2] << "\n";
    stream.close();
    return message_of(ErrorCode::bad_file, [&] { run_bench_on(model(), again); });
  };
  EXPECT_THAT(with(lines[1].substr(0, 40)), HasSubstr("runs.jsonl:2"));
  EXPECT_THAT(with("{}"), HasSubstr("runs.jsonl:2"));
  EXPECT_THAT(with("[1]"), HasSubstr("runs.jsonl:2"));
  EXPECT_THAT(with(lines[0]), HasSubstr("stored before"));
}

TEST_F(RunnerTest, AUsedFolderNeedsResumeAndTheSameSettings) {
  run_bench_on(model(), options());
  EXPECT_THAT(message_of(ErrorCode::invalid_argument, [&] { run_bench_on(model(), options()); }), HasSubstr("resume"));
  BenchOptions other = options();
  other.resume = true;
  other.seed = 1;
  EXPECT_THAT(message_of(ErrorCode::invalid_argument, [&] { run_bench_on(model(), other); }),
              HasSubstr("seed = 0, but 1"));
  other.seed = 0;
  BenchModel changed = model();
  changed.digest = "digest-2";
  EXPECT_THAT(message_of(ErrorCode::invalid_argument, [&] { run_bench_on(changed, other); }),
              HasSubstr("model_digest"));
  BenchModel other_engine = model();
  other_engine.settings["z"] = 2;
  EXPECT_THAT(message_of(ErrorCode::invalid_argument, [&] { run_bench_on(other_engine, other); }), HasSubstr("engine"));
  write_file_atomically(out_ / "config.json", "[]");
  message_of(ErrorCode::bad_file, [&] { run_bench_on(model(), other); });
}

TEST_F(RunnerTest, WrongOptionsAreErrors) {
  const auto expect_wrong = [&](const auto& change) {
    BenchOptions wrong = options();
    change(wrong);
    message_of(ErrorCode::invalid_argument, [&] { run_bench_on(model(), wrong); });
    EXPECT_FALSE(std::filesystem::exists(out_));
  };
  expect_wrong([](BenchOptions& o) { o.turns = 0; });
  expect_wrong([](BenchOptions& o) { o.examples = 0; });
  expect_wrong([](BenchOptions& o) { o.length = 40; });
  expect_wrong([](BenchOptions& o) { o.modes = {}; });
  expect_wrong([](BenchOptions& o) { o.tasks = {"kv", "kv"}; });
  expect_wrong([](BenchOptions& o) { o.tasks = {"sudoku"}; });
  expect_wrong([](BenchOptions& o) { o.modes = {Mode::multi_turn, Mode::multi_turn}; });
}

TEST_F(RunnerTest, WithoutAFolderNothingIsStored) {
  BenchOptions nowhere = options();
  nowhere.out.clear();
  EXPECT_EQ(run_bench_on(model(), nowhere).scored_turns, 48);
  EXPECT_FALSE(std::filesystem::exists(out_));
}

TEST_F(RunnerTest, ReadsDataInsteadOfGenerating) {
  const std::filesystem::path data = out_.string() + "_data";
  std::filesystem::create_directories(data);
  std::ofstream(data / "scbench_kv.jsonl")
      << R"({"id": 0, "context": "{\"k\": \"v\"}", "multi_turns": [{"input": "k?", "answer": "v"}, {"input": "k again?", "answer": "v"}]})"
      << "\n";
  BenchOptions from_data = options();
  from_data.tasks = {};
  from_data.data = data;
  from_data.length = 1000;
  EXPECT_EQ(run_bench_on(model(), from_data).scored_turns, 2 * 2 * 2);
  EXPECT_EQ(read_run_line(stored()[0], "line").reference, "v");
  from_data.length = 100;
  from_data.out.clear();
  EXPECT_THAT(message_of(ErrorCode::limit_exceeded, [&] { run_bench_on(model(), from_data); }),
              HasSubstr("raise the length"));
  std::filesystem::remove_all(data);
}

TEST(Vocabulary, IsFoundFromTheTokenizer) {
  const FakeTokenizer tokenizer;
  EXPECT_EQ(vocabulary_for(tokenizer), Vocabulary::words);
}

TEST(Names, RoundTrip) {
  EXPECT_EQ(parse_mode(to_string(Mode::multi_request)), Mode::multi_request);
  EXPECT_EQ(parse_history(to_string(History::generated)), History::generated);
  EXPECT_EQ(parse_vocabulary(to_string(Vocabulary::uuid)), Vocabulary::uuid);
  EXPECT_EQ(parse_scoring(to_string(Scoring::compat)), Scoring::compat);
  EXPECT_THROW(parse_mode("multi"), Error);
}

}  // namespace
}  // namespace tessera::scbench
