// The page: well-formed, self-contained, and nothing in it can break out of its text.
#include "scbench/report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <set>

#include "scbench/report/format.h"
#include "scbench/report/svg.h"
#include "tessera/base/file.h"
#include "tessera/base/random.h"

namespace tessera::scbench {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::string kHostile = "</td><script>alert('x')</script>\"&\xFF\x01";

// Every tag closed in order; returns the first fault or an empty string. Attribute values must not hold '<' or '>'.
std::string fault_of(const std::string& html) {
  static const std::set<std::string> unclosed = {"!DOCTYPE"};
  std::vector<std::string> open;
  for (size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at)) {
    const size_t end = html.find('>', at);
    if (end == std::string::npos) return "unfinished tag";
    const std::string tag = html.substr(at + 1, end - at - 1);
    if (tag.find('<') != std::string::npos) return "tag in tag: " + tag;
    at = end;
    const std::string name = tag.substr(0, tag.find_first_of(" \n/", 1));
    if (unclosed.contains(name) || tag.ends_with('/')) continue;
    if (tag.starts_with('/')) {
      if (open.empty() || "/" + open.back() != tag) return "closes what is not open: " + tag;
      open.pop_back();
    } else {
      open.push_back(name);
      if (name == "style") at = html.find("</style>", at) - 1;
    }
  }
  return open.empty() ? "" : "never closed: " + open.back();
}

struct FakeRun {
  Summary summary;
  std::vector<RunLine> lines;
};

FakeRun fake_run() {
  RunHeader header;
  header.model = "small " + kHostile;
  header.tasks = {"kv", "prefix-suffix", "vt", "mf", "many-shot", "passkey"};
  header.methods = {"dense",
                    "vertical-slash(recall=0.95)",
                    "a-shape(sinks=128, window=896)",
                    "snapkv(capacity=1024, window=32, kernel=5)",
                    "kivi(bits=2, group=32)",
                    "quest(budget=1024, page=16)",
                    "vertical-slash(recall=0.95) + snapkv(capacity=1024, window=32, kernel=5)"};
  header.method_labels = {"dense",
                          "vertical-slash",
                          "a-shape",
                          "snapkv(capacity=1024)",
                          "kivi(bits=2)",
                          "quest",
                          "vertical-slash + snapkv(capacity=1024)"};
  header.modes = {"multi-turn", "multi-request"};
  header.settings = {{"model", "small"}, {"tasks", header.tasks}, {"length", 8192}, {"seed", 0}, {"hostile", kHostile}};
  header.machine = {{"processor", "some CPU"}, {"compiler", "gcc"}};
  header.command = "tessera bench models/small --methods \"dense; vertical-slash\"";
  constexpr double kQuality[] = {0.97, 0.95, 0.55, 0.6, 0.8, 0.9, 0.58};
  FakeRun run;
  Random random(4);
  for (const std::string& task : header.tasks) {
    for (int64_t example = 0; example < 20; ++example) {
      for (size_t mode = 0; mode < 2; ++mode) {
        for (size_t m = 0; m < header.methods.size(); ++m) {
          for (int64_t turn = 0; turn < 5; ++turn) {
            const double fade = m == 3 || m == 6 ? 1 - 0.18 * static_cast<double>(turn) : 1;
            RunLine line;
            line.task = task;
            line.mode = header.modes[mode];
            line.method = header.methods[m];
            line.example = example;
            line.turn = turn;
            line.score = random.uniform() < kQuality[m] * fade * (mode == 1 ? 0.93 : 1) ? 1 : 0;
            line.prediction = kHostile;
            line.reference = "di do";
            line.prefill_ms = (turn == 0 ? 2200 : 12) * (m == 1 || m == 6 ? 0.4 : 1) * (0.95 + 0.1 * random.uniform());
            line.ttft_ms = line.prefill_ms + 1;
            line.decode_ms = 21;
            line.generated_tokens = 3;
            line.kv_bytes = m == 3 || m == 6 ? 3 << 20 : 24 << 20;
            line.density = turn == 0 && (m == 1 || m == 6) ? 0.23 : 1;
            run.lines.push_back(line);
          }
        }
      }
    }
  }
  header.expected_turns = static_cast<int64_t>(run.lines.size()) + 10;
  run.summary = summarise(header, run.lines);
  return run;
}

TEST(Page, IsWellFormedAndSelfContained) {
  const FakeRun run = fake_run();
  const std::string page = render_page(run.summary, run.lines);
  EXPECT_EQ(fault_of(page), "");
  EXPECT_THAT(page, testing::StartsWith("<!DOCTYPE html>"));
  for (const char* fetched : {"src=", "href=", "@import", "url(", "<script", "<link"})
    EXPECT_THAT(page, Not(HasSubstr(fetched)));
  EXPECT_THAT(page, HasSubstr("not complete: 8400 of 8410"));
  for (const char* section :
       {"Score</h2>", "Difference to dense", "Score per turn", "Time, memory", "Wrong answers", "measured"}) {
    EXPECT_THAT(page, HasSubstr(section));
  }
}

TEST(Page, ForeignTextIsEscaped) {
  const FakeRun run = fake_run();
  const std::string page = render_page(run.summary, run.lines);
  EXPECT_THAT(
      page, HasSubstr("&lt;/td&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;\xEF\xBF\xBD\xEF\xBF\xBD"));
  EXPECT_EQ(page.find('\xFF'), std::string::npos);
  EXPECT_EQ(page.find('\x01'), std::string::npos);
}

TEST(Page, OneMethodOneTaskAndNothingYet) {
  FakeRun run = fake_run();
  RunHeader header = run.summary.header;
  header.tasks = {"kv"};
  header.methods.resize(1);
  header.method_labels.resize(1);
  std::erase_if(run.lines,
                [](const RunLine& line) { return line.task != "kv" || line.method != "dense" || line.turn > 0; });
  const std::string one = render_page(summarise(header, run.lines), run.lines);
  EXPECT_EQ(fault_of(one), "");
  EXPECT_THAT(one, Not(HasSubstr("Difference to")));
  EXPECT_THAT(one, Not(HasSubstr("nan")));
  const std::string nothing = render_page(summarise(header, {}), {});
  EXPECT_EQ(fault_of(nothing), "");
  EXPECT_THAT(nothing, HasSubstr("not yet"));
}

TEST(Page, IsWrittenBesideTheSummary) {
  const FakeRun run = fake_run();
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "scbench_page";
  std::filesystem::create_directories(folder);
  write_report(run.summary, run.lines, folder);
  EXPECT_EQ(read_file(folder / "report.html"), render_page(run.summary, run.lines));
  EXPECT_EQ(read_json(folder / "summary.json")["cells"].size(), run.summary.cells.size());
  std::filesystem::remove_all(folder);
}

TEST(Svg, ElementsAreClosedAndEscaped) {
  Svg svg(100, 50, "a \"title\"");
  svg.rectangle({1, 2, -3, 4}, "fill-0", "<tip>");
  for (size_t shape = 0; shape < 5; ++shape) svg.marker({5, 5}, shape, "fill-1", "t");
  svg.polyline({{0, 0}, {1, 1}}, "line-0");
  svg.polygon({{0, 0}, {1, 1}, {2, 0}}, "fill-0");
  svg.line({0, 0}, {1, 1}, "grid");
  svg.text({0, 0}, "a & b", "end", "tip");
  EXPECT_EQ(fault_of(svg.str()), "");
  EXPECT_THAT(svg.str(), testing::AllOf(HasSubstr("&lt;tip&gt;"), HasSubstr("a &amp; b"), HasSubstr("width=\"0.0\""),
                                        HasSubstr("a &quot;title&quot;")));
}

TEST(Format, NumbersForPeople) {
  EXPECT_EQ(format_score(0.975), "97.5");
  EXPECT_EQ(format_difference(-0.0001), "+0.0");
  EXPECT_EQ(format_difference(0.015), "+1.5");
  EXPECT_EQ(format_time(0.5), "0.50 ms");
  EXPECT_EQ(format_time(340.4), "340 ms");
  EXPECT_EQ(format_time(1250), "1.25 s");
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(3.0 * (1 << 20) * 1024), "3.0 GiB");
  EXPECT_EQ(shorten("abcdef", 6), "abcdef");
  EXPECT_EQ(shorten("abcdefg", 6), "abcde~");
  EXPECT_EQ(shorten("\xC3\xBC\xC3\xBC\xC3\xBC", 2), "\xC3\xBC~");
}

}  // namespace
}  // namespace tessera::scbench
