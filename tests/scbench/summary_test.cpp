#include "tessera/scbench/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace tessera::scbench {
namespace {

RunLine line(const std::string& method, int64_t example, int64_t turn, double score) {
  RunLine line;
  line.task = "kv";
  line.mode = "multi-turn";
  line.method = method;
  line.model = "m";
  line.example = example;
  line.turn = turn;
  line.score = score;
  line.prefill_ms = turn == 0 ? 1000 + 10.0 * static_cast<double>(example) : 50;
  line.ttft_ms = line.prefill_ms + 5;
  line.decode_ms = 40;
  line.generated_tokens = 4;
  line.kv_bytes = 1024 * (1 + turn);
  line.density = turn == 0 ? 0.5 : 1;
  return line;
}

RunHeader header() {
  RunHeader header;
  header.model = "m";
  header.tasks = {"kv"};
  header.methods = {"dense", "other(x=1)"};
  header.method_labels = {"dense", "other"};
  header.modes = {"multi-turn"};
  header.expected_turns = 12;
  return header;
}

// Three examples of two turns. dense: 1 1, 1 0, 1 1; other: 1 0, 0 0, 1 0.
std::vector<RunLine> lines() {
  return {line("dense", 0, 0, 1),      line("dense", 0, 1, 1),      line("dense", 1, 0, 1),
          line("dense", 1, 1, 0),      line("dense", 2, 0, 1),      line("dense", 2, 1, 1),
          line("other(x=1)", 0, 0, 1), line("other(x=1)", 0, 1, 0), line("other(x=1)", 1, 0, 0),
          line("other(x=1)", 1, 1, 0), line("other(x=1)", 2, 0, 1), line("other(x=1)", 2, 1, 0)};
}

TEST(Summary, MeansAreThoseByHand) {
  const Summary summary = summarise(header(), lines());
  ASSERT_EQ(summary.cells.size(), 2U);  // one task: no cell over all tasks
  const Cell* dense = summary.find("kv", "dense", "multi-turn");
  const Cell* other = summary.find("kv", "other(x=1)", "multi-turn");
  EXPECT_DOUBLE_EQ(dense->score.estimate, 5.0 / 6);
  EXPECT_DOUBLE_EQ(other->score.estimate, 2.0 / 6);
  EXPECT_EQ(dense->examples, 3);
  EXPECT_EQ(dense->scored_turns, 6);
  ASSERT_EQ(dense->turn_scores.size(), 2U);
  EXPECT_DOUBLE_EQ(dense->turn_scores[0].estimate, 1);
  EXPECT_DOUBLE_EQ(dense->turn_scores[1].estimate, 2.0 / 3);
  EXPECT_EQ(dense->turn_scores[0].lower, 1);
  EXPECT_FALSE(dense->difference.has_value());
  ASSERT_TRUE(other->difference.has_value());
  EXPECT_DOUBLE_EQ(other->difference->estimate, -0.5);  // -1, -1, -1 of six turns
}

// Whole examples are resampled: with three examples of means 1, 1/2, 1 a mean of a resample lies on a grid of sixths.
TEST(Summary, IntervalsResampleExamples) {
  const Summary summary = summarise(header(), lines());
  const Interval score = summary.find("kv", "dense", "multi-turn")->score;
  EXPECT_DOUBLE_EQ(score.lower, 0.5);
  EXPECT_DOUBLE_EQ(score.upper, 1);
  // Each example lost exactly one half, so the difference has no spread.
  const Interval difference = *summary.find("kv", "other(x=1)", "multi-turn")->difference;
  EXPECT_DOUBLE_EQ(difference.lower, -0.5);
  EXPECT_DOUBLE_EQ(difference.upper, -0.5);
}

TEST(Summary, CostsAreMedians) {
  const Summary summary = summarise(header(), lines());
  const Cell* dense = summary.find("kv", "dense", "multi-turn");
  EXPECT_DOUBLE_EQ(dense->first_prefill_ms, 1010);
  EXPECT_DOUBLE_EQ(dense->first_ttft_ms, 1015);
  EXPECT_DOUBLE_EQ(dense->next_ttft_ms, 55);
  EXPECT_DOUBLE_EQ(dense->decode_ms_per_token, 10);
  EXPECT_DOUBLE_EQ(dense->kv_bytes, 1536);
  EXPECT_DOUBLE_EQ(dense->density, 0.5);
}

TEST(Summary, DifferencesUseOnlyTurnsThatBothHave) {
  std::vector<RunLine> some = lines();
  std::erase_if(some, [](const RunLine& l) { return l.method == "dense" && l.example == 1; });
  const Summary summary = summarise(header(), some);
  EXPECT_DOUBLE_EQ(summary.find("kv", "other(x=1)", "multi-turn")->difference->estimate, -0.5);
  std::erase_if(some, [](const RunLine& l) { return l.method == "dense"; });
  EXPECT_FALSE(summarise(header(), some).find("kv", "other(x=1)", "multi-turn")->difference.has_value());
}

TEST(Summary, SeveralTasksGetACellOverAll) {
  std::vector<RunLine> all = lines();
  for (RunLine l : lines()) {
    l.task = "vt";
    l.score = 0;
    all.push_back(l);
  }
  RunHeader two = header();
  two.tasks = {"kv", "vt"};
  const Summary summary = summarise(two, all);
  EXPECT_EQ(summary.cells.size(), 6U);
  const Cell* dense = summary.find(kAllTasks, "dense", "multi-turn");
  EXPECT_DOUBLE_EQ(dense->score.estimate, 5.0 / 12);
  EXPECT_EQ(dense->examples, 6);
  EXPECT_DOUBLE_EQ(summary.find(kAllTasks, "other(x=1)", "multi-turn")->difference->estimate, -0.25);
}

TEST(Summary, NothingScoredYet) {
  const Summary summary = summarise(header(), {});
  EXPECT_TRUE(summary.cells.empty());
  EXPECT_FALSE(to_json(summary)["complete"]);
  EXPECT_THAT(terminal_table(summary), testing::HasSubstr("0 of 12"));
}

TEST(Summary, JsonHasTheSameNumbers) {
  const nlohmann::ordered_json json = to_json(summarise(header(), lines()));
  EXPECT_TRUE(json["complete"]);
  EXPECT_EQ(json["cells"][1]["method"], "other(x=1)");
  EXPECT_DOUBLE_EQ(json["cells"][1]["difference"]["estimate"], -0.5);
  EXPECT_TRUE(json["cells"][0]["difference"].is_null());
}

TEST(TerminalTable, FitsIntoAHundredColumns) {
  RunHeader wide = header();
  wide.tasks = {"kv", "prefix-suffix", "vt", "mf", "many-shot", "passkey"};
  wide.method_labels = {"dense", "vertical-slash + snapkv(capacity=1024, window=32) \xE2\x82\xAC\xE2\x82\xAC"};
  std::vector<RunLine> all;
  for (const std::string& task : wide.tasks) {
    for (RunLine l : lines()) {
      l.task = task;
      if (task == "vt") l.score = 1;
      all.push_back(l);
    }
  }
  const std::string table = terminal_table(summarise(wide, all));
  for (const char* touching : {"]1", "]8", "]3"}) EXPECT_THAT(table, testing::Not(testing::HasSubstr(touching)));
  EXPECT_THAT(table, testing::HasSubstr("100.0 [100-100]"));
  std::istringstream stream(table);
  for (std::string row; std::getline(stream, row);) EXPECT_LE(row.size(), 100U) << row;
  EXPECT_THAT(table, testing::HasSubstr("83.3 [50-100]"));
  EXPECT_THAT(table, testing::HasSubstr("vertical-slash + snapkv(ca~"));
  EXPECT_THAT(table, testing::HasSubstr("-41.7 ["));  // five tasks differ by -50, vt by 0
}

}  // namespace
}  // namespace tessera::scbench
