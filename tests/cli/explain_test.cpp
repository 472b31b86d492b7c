// `tessera explain` as its users meet it.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "support/program_test.h"
#include "tessera/base/file.h"
#include "tessera/base/random.h"

namespace tessera {
namespace {

using testing::Outcome;

class ExplainCli : public testing::ProgramTest {
 protected:
  ExplainCli() : ProgramTest("explain-") {}

  // u, v in [0, 1], category c, and three outputs: a smooth score, and two class probabilities that add up to one.
  std::string table(int64_t rows = 120) const {
    Random random(5);
    std::string text = "u,v,c,score,p,q\n";
    const char* names[] = {"red", "green", "blue"};
    for (int64_t i = 0; i < rows; ++i) {
      const double u = random.uniform(), v = random.uniform();
      const auto c = static_cast<size_t>(random.below(3));
      const double p = 1 / (1 + std::exp(-(2 * u - v + 0.5 * static_cast<double>(c) - 0.7)));
      text += fmt::format("{:.6f},{:.6f},{},{:.6f},{:.9f},{:.9f}\n", u, v, names[c],
                          2 * u - v + 0.5 * static_cast<double>(c), p, 1 - p);
    }
    return write("table.csv", text);
  }

  static constexpr const char* kScore = " --output score --ignore p,q";

  Outcome run(const std::string& arguments) const {
    return testing::run_program(TESSERA_PROGRAM, "explain " + arguments, path("stderr"));
  }

  nlohmann::json json(const std::string& arguments) const {
    const Outcome outcome = run(arguments + " --json");
    EXPECT_EQ(outcome.status, 0) << arguments << "\n" << outcome.err;
    return nlohmann::json::parse(outcome.out, nullptr, false);
  }

  // Exit 2, one sentence on standard error, nothing on standard output, and no file that was not there before.
  void expect_refusal(const std::string& arguments, const std::vector<std::string>& expected) const {
    const auto files = [&] {
      std::vector<std::string> names;
      for (const auto& entry : std::filesystem::directory_iterator(folder_))
        if (entry.path().filename() != "stderr") names.push_back(entry.path().filename().string());
      std::sort(names.begin(), names.end());
      return names;
    };
    const auto before = files();
    const Outcome outcome = run(arguments + " --report " + path("page.html"));
    EXPECT_EQ(outcome.status, 2) << arguments << "\n" << outcome.err;
    for (const std::string& words : expected)
      EXPECT_NE(outcome.err.find(words), std::string::npos) << arguments << "\nexpected: " << words << "\n"
                                                            << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "") << arguments;
    EXPECT_EQ(files(), before) << arguments;
  }
};

TEST_F(ExplainCli, TheJsonHasThePromisedShape) {
  const nlohmann::json answer = json(table() + kScore + " --row 26");
  ASSERT_EQ(answer["rows"].size(), 1U);
  const nlohmann::json& row = answer["rows"][0];
  EXPECT_EQ(row["row"], 26);
  EXPECT_EQ(row["output_column"], "score");
  ASSERT_EQ(row["features"].size(), 3U);
  for (const auto& feature : row["features"]) {
    for (const char* key : {"name", "type", "value", "baseline", "importance", "lower", "upper"})
      EXPECT_TRUE(feature.contains(key)) << key;
    EXPECT_LE(feature["lower"], feature["importance"]);
    EXPECT_LE(feature["importance"], feature["upper"]);
  }
  EXPECT_EQ(row["features"][2]["type"], "categorical");
  EXPECT_EQ(row["features"][2]["contrasts"].size(), 2U);
  EXPECT_NEAR(row["features"][0]["importance"].get<double>(), 2, 1e-3);  // slope of the score in u
  EXPECT_FALSE(row["features"][0].contains("step"));
  EXPECT_TRUE(row["warnings"].is_array());
  EXPECT_TRUE(row["flags"]["extrapolation"].is_boolean());
}

TEST_F(ExplainCli, EveryFlagOfThePublishedAlgorithmIsTaken) {
  const nlohmann::json answer =
      json(table() + kScore +
           " --row 3,5 --compat --neighbours 60 --degree 3 --weights none --importance difference --deltas u=0.1,v=0.2 "
           "--replicates 100 --ratio 0.9 --level 0.9 --interval basic --seed 7 --threads 2 --baselines c=red");
  ASSERT_EQ(answer["rows"].size(), 2U);
  EXPECT_EQ(answer["rows"][1]["row"], 5);
  EXPECT_EQ(answer["rows"][0]["estimator"], "published");
  EXPECT_EQ(answer["settings"]["interval"], "basic");
  EXPECT_NEAR(answer["rows"][0]["features"][0]["importance"].get<double>(), 0.2, 1e-6);   // 2 over a step of 0.1
  EXPECT_NEAR(answer["rows"][0]["features"][1]["importance"].get<double>(), -0.2, 1e-6);  // -1 over a step of 0.2
  EXPECT_EQ(answer["rows"][0]["features"][1]["step"], 0.2);
  EXPECT_FALSE(answer["rows"][0]["features"][2].contains("step"));
}

TEST_F(ExplainCli, BaselinesAndDeltasComeFromPairsJsonAndFiles) {
  const std::string data = table();
  const std::string deltas = write("deltas.json", R"({"u": 0.1})"), baselines = write("base.json", R"({"c": "red"})");
  const auto rows = [&](const std::string& more) {
    return json(data + kScore + " --row 4 --importance difference " + more)["rows"];
  };
  const nlohmann::json pairs = rows("--deltas u=0.1 --baselines c=red");
  EXPECT_EQ(pairs, rows("--deltas '{\"u\": 0.1}' --baselines '{\"c\": \"red\"}'"));
  EXPECT_EQ(pairs, rows("--deltas " + deltas + " --baselines " + baselines));
  EXPECT_NE(pairs, rows("--deltas u=0.3"));
  const std::string base = pairs[0]["features"][2]["baseline"];
  EXPECT_TRUE(base == "red" || pairs[0]["features"][2]["value"] == "red") << base;
}

TEST_F(ExplainCli, TypesAreFoundAndOverridden) {
  std::string text = "x,flag,y\n";
  Random random(3);
  for (int i = 0; i < 80; ++i) {
    const double x = random.uniform();
    text += fmt::format("{:.5f},{},{:.5f}\n", x, i % 2, x + 0.5 * (i % 2));
  }
  const std::string data = write("typed.csv", text);
  const auto type = [&](const std::string& more) {
    return json(data + " --output y --row 0 " + more)["rows"][0]["features"][1]["type"].get<std::string>();
  };
  EXPECT_EQ(type(""), "categorical");
  EXPECT_EQ(type("--continuous flag"), "continuous");
  EXPECT_EQ(type("--categorical-up-to 0"), "continuous");
  EXPECT_EQ(type("--categorical-up-to 0 --categorical flag"), "categorical");
  const nlohmann::json answer = json(data + " --output y --row 0");
  EXPECT_NE(answer["remarks"].dump().find("flag"), std::string::npos);
}

TEST_F(ExplainCli, MissingValuesAreSaidAndHandled) {
  std::string text = "x,c,y\n";
  Random random(3);
  for (int i = 0; i < 90; ++i) {
    const double x = random.uniform();
    text += fmt::format("{},{},{:.5f}\n", i == 4 ? "NA" : fmt::format("{:.5f}", x),
                        i == 7 ? "" : (i % 2 == 0 ? "a" : "b"), x + 0.5 * (i % 2));
  }
  const std::string data = write("gaps.csv", text);
  expect_refusal(data + " --output y --row 0", {"row 4", "column 'x'", "missing", "--missing drop"});
  const nlohmann::json dropped = json(data + " --output y --row 8 --missing drop");
  EXPECT_EQ(dropped["settings"]["rows_left_out"], 2);
  EXPECT_EQ(dropped["rows"][0]["row"], 8);
  EXPECT_NE(dropped["remarks"].dump().find("2 of 90 rows"), std::string::npos);
  expect_refusal(data + " --output y --row 4 --missing drop", {"--row 4", "left out"});
  const nlohmann::json filled = json(data + " --output y --row 7 --missing fill");
  EXPECT_EQ(filled["rows"][0]["features"][1]["value"], "(missing)");
  EXPECT_NE(filled["remarks"].dump().find("median"), std::string::npos);
  expect_refusal(data + " --output y --row 4 --missing maybe", {"--missing", "maybe"});
}

TEST_F(ExplainCli, ClassesAreExplainedEachAgainstTheRest) {
  const std::string data = table();
  const nlohmann::json answer = json(data + " --output p,q --ignore score --classification --row 4");
  ASSERT_EQ(answer["rows"].size(), 2U);
  EXPECT_EQ(answer["settings"]["classes"], true);
  for (size_t j = 0; j < 3; ++j) {  // what one class gains the other loses
    const double p = answer["rows"][0]["features"][j]["importance"], q = answer["rows"][1]["features"][j]["importance"];
    EXPECT_NEAR(p, -q, 1e-4);
  }
  const Outcome text = run(data + " --output p,q --ignore score --classification --row 4 --report " + path("pq.html"));
  EXPECT_NE(text.out.find("most likely here"), std::string::npos);
  const std::string page = read_file(path("pq.html"));
  EXPECT_NE(page.find("<th>importance for</th><th>p</th><th>q</th>"), std::string::npos);
  EXPECT_NE(page.find("Most likely here: "), std::string::npos);
  const nlohmann::json alone = json(data + " --output p,q --ignore score --row 4");
  EXPECT_EQ(alone["settings"]["classes"], false);
}

TEST_F(ExplainCli, QuantilesStayInOrderAndTheirSpreadIsExplained) {
  std::string text = "x,q10,q90\n";
  Random random(3);
  for (int i = 0; i < 80; ++i) {
    const double x = random.uniform();
    text += fmt::format("{:.6f},{:.6f},{:.6f}\n", x, x - 0.1 - x, x + 0.1 + 2 * x);
  }
  const std::string data = write("quantiles.csv", text);
  const nlohmann::json answer = json(data + " --output q10,q90 --quantiles 0.1,0.9 --row 2");
  ASSERT_EQ(answer["rows"].size(), 3U);
  EXPECT_LE(answer["rows"][0]["prediction"], answer["rows"][1]["prediction"]);
  EXPECT_EQ(answer["rows"][2]["output_column"], "q90 minus q10");
  EXPECT_NEAR(answer["rows"][2]["features"][0]["importance"].get<double>(), 3, 1e-3);
  EXPECT_FALSE(answer["rows"][0]["flags"]["quantile-crossing"].get<bool>());
  // Rows in which q10 stays below q90, and a query beyond them where their fits cross.
  std::string towards = "x,q10,q90\n";
  for (int i = 0; i < 80; ++i) towards += fmt::format("{:.4f},{:.4f},{:.4f}\n", i / 80.0, i / 80.0, 1 + 0.01 * (i % 2));
  const nlohmann::json crossed = json(write("towards.csv", towards) + " --output q10,q90 --quantiles 0.1,0.9 --query " +
                                      write("far.csv", "x\n1.6\n"));
  EXPECT_TRUE(crossed["rows"][0]["flags"]["quantile-crossing"].get<bool>());
  EXPECT_LE(crossed["rows"][0]["prediction"], crossed["rows"][1]["prediction"]);
  expect_refusal(data + " --output q90,q10 --quantiles 0.1,0.9 --row 2", {"row 0", "'q90'", "'q10'", "never smaller"});
  expect_refusal(data + " --output q10,q90 --quantiles 0.9,0.1 --row 2", {"--quantiles", "ascending"});
  expect_refusal(data + " --output q10,q90 --quantiles 0.1 --row 2", {"--quantiles", "1 levels for 2 outputs"});
}

TEST_F(ExplainCli, QueriesAreMatchedByName) {
  const std::string data = table();
  const std::string queries = write("q.csv", "c,extra,v,u\nred,1,0.5,0.25\nblue,2,0.1,0.9\n");
  const nlohmann::json answer = json(data + kScore + " --query " + queries);
  ASSERT_EQ(answer["rows"].size(), 2U);
  EXPECT_EQ(answer["rows"][0]["features"][0]["value"], 0.25);
  EXPECT_EQ(answer["rows"][1]["features"][2]["value"], "blue");
  EXPECT_EQ(answer["rows"][1]["query"], 1);
  EXPECT_TRUE(answer["rows"][0]["row"].is_null());
}

std::string npy(const std::string& type, bool fortran, int64_t rows, int64_t columns, const std::string& data) {
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': {}, 'shape': ({}, {}), }}", type,
                                   fortran ? "True" : "False", rows, columns);
  header.resize(117, ' ');
  header += '\n';
  std::string text = "\x93NUMPY\x01";
  text += '\0';
  text += static_cast<char>(header.size());
  text += '\0';
  return text + header + data;
}

TEST_F(ExplainCli, NpyTablesOfBothOrdersWithNamesAndAnIndexGiveTheSameAnswer) {
  constexpr int64_t kRows = 3000;
  Random random(9);
  std::vector<float> values;
  for (int64_t i = 0; i < kRows; ++i) {
    const auto x = static_cast<float>(random.uniform()), z = static_cast<float>(random.uniform());
    values.insert(values.end(), {x, z, 2 * x - z * z});
  }
  const auto bytes = [](const std::vector<float>& v) {
    return std::string(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(float));
  };
  std::vector<float> turned(values.size());
  for (size_t i = 0; i < kRows; ++i)
    for (size_t j = 0; j < 3; ++j) turned[j * kRows + i] = values[3 * i + j];
  const std::string c_order = write("c.npy", npy("<f4", false, kRows, 3, bytes(values)));
  const std::string fortran = write("f.npy", npy("<f4", true, kRows, 3, bytes(turned)));
  const std::string names = write("names.txt", "x\nz\ny\n");
  const std::string index = path("c.index");
  const std::string more = " --names " + names + " --output y --row 17 --estimator kernel";
  const nlohmann::json plain = json(c_order + more)["rows"];
  EXPECT_EQ(plain[0]["features"][1]["name"], "z");
  EXPECT_NEAR(plain[0]["features"][0]["importance"].get<double>(), 2, 1e-2);
  EXPECT_EQ(plain, json(fortran + more)["rows"]);
  EXPECT_EQ(plain, json(c_order + more + " --index " + index)["rows"]);  // built
  ASSERT_TRUE(std::filesystem::exists(index));
  EXPECT_EQ(plain, json(c_order + more + " --index " + index)["rows"]);  // opened
  values[30] += 1;
  values[0] += 1;
  const std::string other = write("other.npy", npy("<f4", false, kRows, 3, bytes(values)));
  expect_refusal(other + more + " --index " + index, {"index of another table"});
  expect_refusal(fortran + more + " --index " + path("f.index"), {"--index", "C order"});
  expect_refusal(c_order + " --names " + write("short.txt", "x,z") + " --output x --row 0", {"3 columns", "2 names"});
  expect_refusal(c_order + " --output y --row 0", {"'y'", "x0, x1, x2"});
  values[4 * 3 + 1] = std::nanf("");
  const std::string holed = write("holed.npy", npy("<f4", false, kRows, 3, bytes(values)));
  expect_refusal(holed + more + " --index " + path("holed.index"), {"row 4, column 'z'"});
}

TEST_F(ExplainCli, AllRowsAreWrittenWithASummaryAndAPage) {
  const std::string data = table(), out = path("all.jsonl");
  const nlohmann::json answer = json(data + kScore + " --all --out " + out + " --report " + path("page.html"));
  const nlohmann::json& summary = answer["summary"][0];
  EXPECT_EQ(summary["rows"], 120);
  ASSERT_EQ(summary["features"].size(), 3U);
  EXPECT_NEAR(summary["features"][0]["mean_absolute_importance"].get<double>(), 2, 1e-2);
  EXPECT_EQ(summary["features"][0]["sign_consistency"], 1.0);
  EXPECT_GT(summary["features"][0]["share_excluding_zero"].get<double>(), 0.9);
  const std::string lines = read_file(out);
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 120);
  EXPECT_NE(read_file(path("page.html")).find("</html>"), std::string::npos);
  // A second run does not touch it; a resumed one finds it complete.
  const Outcome again = run(data + kScore + " --all --out " + out);
  EXPECT_EQ(again.status, 2);
  EXPECT_NE(again.err.find("--resume"), std::string::npos);
  EXPECT_EQ(json(data + kScore + " --all --resume --out " + out)["summary"][0], summary);
  EXPECT_EQ(read_file(out), lines);
  const Outcome other = run(data + kScore + " --all --resume --seed 9 --out " + out);
  EXPECT_EQ(other.status, 2);
  EXPECT_NE(other.err.find("another seed"), std::string::npos) << other.err;
}

TEST_F(ExplainCli, AKilledRunLosesAndRepeatsNothing) {
  const std::string data = table(1500), whole = path("whole.jsonl"), out = path("killed.jsonl");
  const std::string more =
      " --output score,p --ignore q --estimator published --replicates 100 --all --threads 1 --out ";
  ASSERT_EQ(run(data + more + whole).status, 0);
  int kills = 0;
  uintmax_t before = 0;  // bytes written when it was last killed
  for (int attempt = 0; attempt < 6; ++attempt) {
    const pid_t child = fork();
    if (child == 0) {
      if (freopen("/dev/null", "w", stdout) == nullptr || freopen("/dev/null", "w", stderr) == nullptr) _exit(1);
      const std::string program = TESSERA_PROGRAM;
      execl(program.c_str(), program.c_str(), "explain", data.c_str(), "--output", "score,p", "--ignore", "q",
            "--estimator", "published", "--replicates", "100", "--all", "--threads", "1", "--resume", "--out",
            out.c_str(), nullptr);
      _exit(127);
    }
    int status = 0;
    pid_t ended = 0;
    if (attempt < 3) {  // killed a little after it has written more than before
      const auto size = [&] { return std::filesystem::exists(out) ? std::filesystem::file_size(out) : 0; };
      while ((ended = waitpid(child, &status, WNOHANG)) == 0 && size() <= before)
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      std::this_thread::sleep_for(std::chrono::milliseconds(13 * attempt));
      if (ended == 0) kill(child, SIGKILL);
    }
    if (ended == 0) waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) {
      ++kills;
      // Also as if the machine had stopped in the middle of a line, or between the two lines of a row.
      if (kills == 2 && std::filesystem::exists(out) && std::filesystem::file_size(out) > 100)
        std::filesystem::resize_file(out, std::filesystem::file_size(out) - 37);
      before = std::filesystem::file_size(out);
      EXPECT_GT(before, 0U);
    } else {
      EXPECT_EQ(WEXITSTATUS(status), 0);
      break;
    }
  }
  EXPECT_GE(kills, 2);
  EXPECT_EQ(read_file(out), read_file(whole));
}

TEST_F(ExplainCli, AnswersAreTheSameBytesForAnyNumberOfThreads) {
  const std::string data = table(150);
  for (const std::string estimator : {"kernel", "forest", "published", "automatic"}) {
    std::vector<std::string> lines, rows;
    for (const std::string threads : {"1", "2", "3"}) {
      const std::string out = path(estimator + threads + ".jsonl");
      const std::string more = " --estimator " + estimator + " --seed 11 --threads " + threads;
      ASSERT_EQ(run(data + " --output score,p --ignore q" + more + " --all --out " + out).status, 0);
      lines.push_back(read_file(out));
      rows.push_back(run(data + kScore + more + " --row 7 --json").out);
    }
    EXPECT_EQ(lines[0], lines[1]) << estimator;
    EXPECT_EQ(lines[0], lines[2]) << estimator;
    EXPECT_EQ(rows[0], rows[1]) << estimator;
    EXPECT_EQ(rows[0], rows[2]) << estimator;
  }
}

TEST_F(ExplainCli, TextReadsWellOnANarrowTerminal) {
  const Outcome outcome = run(table() + kScore + " --row 26");
  ASSERT_EQ(outcome.status, 0);
  EXPECT_NE(outcome.out.find("score, row 26"), std::string::npos);
  for (size_t begin = 0; begin < outcome.out.size();) {
    const size_t end = outcome.out.find('\n', begin);
    EXPECT_LE(end - begin, 130U) << outcome.out.substr(begin, end - begin);
    begin = end + 1;
  }
}

TEST_F(ExplainCli, WrongUsageIsOneSentence) {
  const std::string data = table();
  expect_refusal(data + kScore, {"exactly one of --row, --query and --all"});
  expect_refusal(data + kScore + " --row 1 --all", {"exactly one"});
  expect_refusal(data + kScore + " --all", {"--out"});
  expect_refusal(data + kScore + " --row 120", {"--row 120", "0 to 119"});
  expect_refusal(data + kScore + " --row=-1", {"--row", "from 0", "-1"});
  expect_refusal(data + kScore + " --row 1 --estimator magic", {"magic", "kernel"});
  expect_refusal(data + kScore + " --row 1 --interval percentile", {"interval"});
  expect_refusal(data + kScore + " --row 1 --level 1.5", {"level"});
  expect_refusal(data + kScore + " --row 1 --estimator published --replicates 39",
                 {"--replicates", "40", "0.95", "39"});
  expect_refusal(data + kScore + " --row 1 --deltas u", {"u"});
  expect_refusal(data + kScore + " --row 1 --deltas u=-1", {"'u'", "positive"});
  expect_refusal(data + kScore + " --row 1 --deltas c=1", {"'c' is categorical"});
  expect_refusal(data + kScore + " --row 1 --baselines c=violet", {"'c'", "violet", "red"});
  expect_refusal(data + kScore + " --row 1 --baselines w=1", {"'w'"});
  expect_refusal(path("none.csv") + kScore + " --row 1", {"none.csv"});
  expect_refusal(data + kScore + " --all --out " + path("no/such/folder.jsonl"), {"folder", "does not exist"});
}

TEST_F(ExplainCli, BadTablesAreRefusedNamingRowAndColumn) {
  const auto csv = [&](const std::string& head, auto&& line, int rows = 30) {
    std::string text = head + "\n";
    for (int i = 0; i < rows; ++i) text += line(i) + "\n";
    return write("bad.csv", text);
  };
  const auto good = [](int i) { return fmt::format("{},{},{}", i, (i * 7) % 11, 0.01 * i); };
  // A constant column, of numbers and of categories.
  expect_refusal(csv("x,k,y", [](int i) { return fmt::format("{},2.5,{}", i, 0.01 * i); }) + " --output y --row 0",
                 {"bad.csv", "column 'k'", "constant", "2.5"});
  expect_refusal(csv("x,k,y", [](int i) { return fmt::format("{},red,{}", i, 0.01 * i); }) + " --output y --row 0",
                 {"column 'k'", "single category 'red'"});
  // Probabilities outside [0, 1].
  expect_refusal(csv("x,z,y", [](int i) { return fmt::format("{},{},{}", i, (i * 7) % 11, i == 12 ? 1.2 : 0.5); }) +
                     " --output y --classification --row 0",
                 {"row 12", "column 'y'", "1.2", "0 to 1"});
  // NaN and infinity in inputs and outputs.
  expect_refusal(csv("x,z,y", [](int i) { return fmt::format("{},{},{}", i, i == 9 ? "NaN" : "1.5", 0.5 * i); }) +
                     " --output y --row 0",
                 {"row 9", "column 'z'", "missing"});
  expect_refusal(csv("x,z,y", [](int i) { return fmt::format("{},{},{}", i, i % 3, i == 8 ? "NaN" : "1.5"); }) +
                     " --output y --row 0",
                 {"row 8", "column 'y'", "missing"});
  expect_refusal(csv("x,z,y", [](int i) { return fmt::format("{},{},{}", i, i % 3, i == 8 ? "inf" : "1.5"); }) +
                     " --output y --row 0",
                 {"row 8", "column 'y'", "expected a number", "inf"});
  // Unknown columns.
  const std::string plain = csv("x,z,y", good);
  expect_refusal(plain + " --output w --row 0", {"'w'", "x, z, y"});
  expect_refusal(plain + " --output y --ignore w --row 0", {"'w'", "x, z, y"});
  expect_refusal(plain + " --output y --categorical w --row 0", {"'w'", "x, z, y"});
  expect_refusal(plain + " --output y --continuous w --row 0", {"'w'", "x, z, y"});
  expect_refusal(plain + " --output y --ignore x,z --row 0", {"no column is left"});
  expect_refusal(plain + " --output y,y --row 0", {"'y' is named twice"});
  // Queries: an unseen category, a missing column, a missing value.
  const std::string data = table();
  expect_refusal(data + kScore + " --query " + write("q.csv", "u,v,c\n1,1,red\n1,1,violet\n"),
                 {"row 1", "column 'c'", "violet", "never occurs"});
  expect_refusal(data + kScore + " --query " + write("q.csv", "u,c\n1,red\n"), {"'v'"});
  expect_refusal(data + kScore + " --query " + write("q.csv", "u,v,c\n1,,red\n"), {"row 0", "column 'v'", "missing"});
  expect_refusal(data + kScore + " --query " + write("q.csv", "u,v,c\n"), {"no row to explain"});
  std::string more = "id,u,v,c\n";  // a column that is not needed may hold anything
  for (int i = 0; i < 30; ++i) more += fmt::format("user{},1,1,red\n", i);
  EXPECT_EQ(json(data + kScore + " --query " + write("q.csv", more))["rows"].size(), 30U);
  // Ragged and empty files.
  expect_refusal(csv("x,z,y", [&](int i) { return i == 20 ? std::string("1,2") : good(i); }) + " --output y --row 0",
                 {"row 20", "line 22", "2 fields", "expected 3", "'y'"});
  expect_refusal(write("bad.csv", "") + " --output y --row 0", {"empty"});
  expect_refusal(write("bad.csv", "x,z,y\n") + " --output y --row 0", {"no rows"});
  // A stray text among numbers.
  expect_refusal(
      csv("x,z,y", [&](int i) { return i == 17 ? std::string("inf,2,1") : good(i); }) + " --output y --row 0",
      {"row 17", "column 'x'", "found 'inf'", "column of numbers"});
  // An identifier read as a category.
  expect_refusal(csv(
                     "id,x,y", [](int i) { return fmt::format("user{},{},{}", i, i, 0.01 * i); }, 1200) +
                     " --output y --row 0",
                 {"column 'id'", "more than 500 different values", "row 500", "ignore"});
  expect_refusal(csv(
                     "id,x,y", [](int i) { return fmt::format("user{},{},{}", i, i, 0.01 * i); }, 40) +
                     " --output y --row 0",
                 {"column 'id'", "40 different categories in 40 rows", "user0", "--ignore"});
  // An .npy file that is cut off.
  expect_refusal(write("bad.npy", npy("<f4", false, 10, 3, std::string(60, '\0'))) + " --output x2 --row 0",
                 {"10 x 3", "15"});
}

TEST_F(ExplainCli, OneClassAndTooFewRowsAreRefused) {
  std::string text = "x,z,y\n";
  for (int i = 0; i < 60; ++i) text += fmt::format("{},{},1\n", i, (i * 7) % 11);
  const std::string one_class = write("one.csv", text);
  for (const char* more : {"", " --compat", " --estimator forest"}) {
    expect_refusal(one_class + " --output y --classification --row 3" + more,
                   {"one.csv", "column 'y'", "every row from 0 to 59", "one class only"});
  }
  expect_refusal(one_class + " --output y --row 3", {"column 'y'", "every row"});
  const std::string small = table(40);
  expect_refusal(small + kScore + " --row 3 --neighbours 41",
                 {"40 usable rows", "row 39", "--neighbours", "at most 40"});
  // The default takes what is there, and says so.
  EXPECT_TRUE(json(small + kScore + " --row 3")["rows"][0]["flags"]["few-rows"].get<bool>());
  EXPECT_TRUE(json(small + kScore + " --row 3 --compat")["rows"][0]["flags"]["few-rows"].get<bool>());
  EXPECT_FALSE(json(table(400) + kScore + " --row 3 --neighbours 60")["rows"][0]["flags"]["few-rows"].get<bool>());
}

// The command of the documentation on the shared table.
TEST_F(ExplainCli, CompasReadsAsDocumented) {
  const char* named = std::getenv("TESSERA_SHARED_DATA");
  const std::filesystem::path folder =
      named != nullptr ? named : std::filesystem::path(TESSERA_SOURCE_DIR) / ".." / "shared" / "data";
  const std::filesystem::path found = folder / "explain" / "compas.csv";
  if (!std::filesystem::exists(found)) GTEST_SKIP() << "no " << found << "; set TESSERA_SHARED_DATA";
  const Outcome outcome = run(
      found.string() +
      " --output model_output --classification --categorical two_year_recid,c_charge_degree,sex,race --ignore split "
      "--row 26 --report " +
      path("out.html"));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("model_output, row 26"), std::string::npos);
  const std::string page = read_file(path("out.html"));
  EXPECT_NE(page.find("two_year_recid"), std::string::npos);
  EXPECT_NE(page.find("</html>"), std::string::npos);
}

}  // namespace
}  // namespace tessera
