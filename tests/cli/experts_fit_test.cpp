// `tessera experts fit`, `predict`, `combine` and `report` as their users meet them.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "support/program_test.h"
#include "tessera/base/file.h"
#include "tessera/base/random.h"

namespace tessera {
namespace {

using ::testing::HasSubstr;
using testing::Outcome;

class ExpertsFitCli : public testing::ProgramTest {
 protected:
  ExpertsFitCli() : ProgramTest("experts-fit-") {}

  // Six classes on a circle.
  std::string blobs(const std::string& name, int64_t rows, uint64_t seed) const {
    Random random(seed);
    std::string text = "u,v,class\n";
    const char* names[] = {"ape", "bee", "cat", "dog", "elk", "fox"};
    for (int64_t i = 0; i < rows; ++i) {
      const double angle = static_cast<double>(i % 6) * 6.2831853 / 6;
      text += fmt::format("{:.5f},{:.5f},{}\n", 3 * std::cos(angle) + 0.5 * random.normal(),
                          3 * std::sin(angle) + 0.5 * random.normal(), names[i % 6]);
    }
    return write(name, text);
  }

  Outcome run(const std::string& arguments) const {
    return testing::run_program(TESSERA_PROGRAM, "--threads 1 experts " + arguments, path("stderr"));
  }
#ifdef TESSERA_MPIRUN
  Outcome run_on(int processes, const std::string& arguments) const {
    return testing::run_program(
        fmt::format("env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 "
                    "{} -n {} {}",
                    TESSERA_MPIRUN, processes, TESSERA_PROGRAM),
        "--threads 1 experts " + arguments, path("stderr"));
  }
#endif
  nlohmann::json json(const std::string& arguments) const {
    const Outcome outcome = run(arguments + " --json");
    EXPECT_EQ(outcome.status, 0) << arguments << "\n" << outcome.err;
    return nlohmann::json::parse(outcome.out, nullptr, false);
  }
  // One sentence, status 2, and no file that was not there before.
  void expect_refusal(const std::string& arguments, const std::string& expected) const {
    const auto before = files();
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.status, 2) << arguments << "\n" << outcome.out << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(expected)) << arguments;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(files(), before) << arguments;
  }
  std::vector<std::string> files() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_)) {
      if (entry.path().filename() != "stderr") found.push_back(entry.path().string());
    }
    std::sort(found.begin(), found.end());
    return found;
  }

  static constexpr const char* kSmall = " --size 3 --hidden 16 --epochs 60 --seconds 0.2 --seed 3";
};

TEST_F(ExpertsFitCli, FitsPredictsAndCombinesToTheSameLabels) {
  const std::string train = blobs("train.csv", 300, 1), test = blobs("test.csv", 120, 2), model = path("model");
  const nlohmann::json fitted = json("fit " + train + " --out " + model + kSmall + " --centralised");
  EXPECT_GE(fitted["lambda_min"].get<int>(), 1);
  EXPECT_EQ(fitted["classes"].size(), 6U);
  const nlohmann::json predicted =
      json("predict " + model + " " + test + " --out " + path("p.csv") + " --answers " + path("a.npy"));
  EXPECT_GT(predicted["scores"]["accuracy"].get<double>(), 0.95);
  for (const std::string answers : {"a.npy", "a.csv"}) {
    run("predict " + model + " " + test + " --answers " + path(answers));
    const nlohmann::json combined =
        json("combine " + model + "/design.json " + path(answers) + " --truth " + test + " --out " + path("c.csv"));
    EXPECT_EQ(combined["labels"], predicted["labels"]) << answers;
    EXPECT_EQ(combined["scores"]["accuracy"], predicted["scores"]["accuracy"]);
  }
  EXPECT_EQ(read_file(path("c.csv")).substr(0, 30), read_file(path("p.csv")).substr(0, 30));
  EXPECT_THAT(read_file(path("p.csv")), ::testing::StartsWith("label,ape,bee,cat,dog,elk,fox\n"));
  json("predict " + model + " " + test + " --out " + path("p.npy"));
  EXPECT_THAT(read_file(path("p.npy")), HasSubstr("(120, 7)"));
}

TEST_F(ExpertsFitCli, RowsWithoutAClassGetTheSameLabels) {
  const std::string train = blobs("train.csv", 300, 1), test = blobs("test.csv", 60, 2), model = path("model");
  json("fit " + train + " --out " + model + kSmall);
  std::string bare;
  const std::string text = read_file(test);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    bare += text.substr(begin, text.rfind(',', end) - begin) + "\n";
    begin = end + 1;
  }
  const nlohmann::json labelled = json("predict " + model + " " + test);
  const nlohmann::json unlabelled = json("predict " + model + " " + write("bare.csv", bare) + " --unlabelled");
  EXPECT_EQ(labelled["labels"], unlabelled["labels"]);
  EXPECT_FALSE(unlabelled.contains("scores"));
}

TEST_F(ExpertsFitCli, AdaptiveLabelsEqualTheDeficitRuleAndAskFewer) {
  const std::string train = blobs("train.csv", 300, 1), test = blobs("test.csv", 120, 2), model = path("model");
  json("fit " + train + " --out " + model + kSmall);
  for (const std::string rule : {"quadratic", "balance", "deficit"}) {
    const nlohmann::json adaptive = json("predict " + model + " " + test + " --adaptive same-label --rule " + rule);
    EXPECT_EQ(adaptive["rule"], rule);
    EXPECT_EQ(adaptive["labels"], json("predict " + model + " " + test + " --rule " + rule)["labels"]);
    EXPECT_LT(adaptive["mean_experts_asked"].get<double>(), adaptive["experts"].get<double>());
  }
}

TEST_F(ExpertsFitCli, CalibrationLowersTheLossOnTheHeldOutRows) {
  const std::string train = blobs("train.csv", 300, 1), held = blobs("held.csv", 120, 2), model = path("model");
  json("fit " + train + " --out " + model + kSmall);
  const nlohmann::json plain = json("predict " + model + " " + held);
  const nlohmann::json warm = json("predict " + model + " " + held + " --calibrate " + held + " --gate");
  EXPECT_LE(warm["scores"]["negative_log_likelihood"].get<double>(),
            plain["scores"]["negative_log_likelihood"].get<double>());
  EXPECT_GT(warm["temperature"].get<double>(), 0);
}

TEST_F(ExpertsFitCli, ReportIsOneSelfContainedPage) {
  const std::string train = blobs("train.csv", 300, 1), test = blobs("<b>test.csv", 120, 2), model = path("model");
  json("fit " + train + " --out " + model + kSmall + " --centralised");
  const Outcome outcome = run("report " + model + " '" + test + "' --out " + path("r.html"));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("centralised: accuracy"));
  const std::string page = read_file(path("r.html"));
  for (const char* wanted : {"centralised", "quadratic", "elk", "which expert knows which class", "same-label",
                             "in-set", "reliability", "confusion", "&lt;b&gt;test.csv", "</html>"}) {
    EXPECT_THAT(page, HasSubstr(wanted));
  }
  for (const char* foreign : {"<script", "http:", "https:", "<b>test", "src=", "url("}) {
    EXPECT_EQ(page.find(foreign), std::string::npos) << foreign;
  }
  expect_refusal("report " + model + " '" + test + "' --out " + path("no/r.html"), "does not exist");
}

#ifdef TESSERA_MPIRUN
TEST_F(ExpertsFitCli, TwoProcessesTrainTheSameExpertsAsOne) {
  const std::string train = blobs("train.csv", 120, 1);
  const std::string options = " --size 3 --hidden 8 --epochs 5 --seconds 0.2 --seed 3 --out ";
  ASSERT_EQ(run("fit " + train + options + path("one")).status, 0);
  ASSERT_EQ(run("fit " + train + options + path("alone") + " --mpi").status, 0);
  const Outcome two = run_on(2, "fit " + train + options + path("two") + " --mpi");
  ASSERT_EQ(two.status, 0) << two.err;
  for (const auto& entry : std::filesystem::directory_iterator(path("one"))) {
    for (const char* other : {"alone", "two"}) {
      EXPECT_EQ(read_file(entry.path()), read_file(folder_ / other / entry.path().filename())) << entry.path();
    }
  }
  std::filesystem::remove(path("two/expert-00002.bin"));
  EXPECT_EQ(run_on(2, "fit " + train + options + path("two") + " --mpi").status, 0);
  EXPECT_EQ(read_file(path("one/expert-00002.bin")), read_file(path("two/expert-00002.bin")));
}

// Each process reads classes of its own; rows stay where they are, and a set that no process can train is refused.
TEST_F(ExpertsFitCli, RowsStayWithTheirProcess) {
  const std::string text = read_file(blobs("all.csv", 240, 1));
  const std::string test = blobs("test.csv", 60, 2);
  std::string part[] = {"u,v,class\n", "u,v,class\n"};
  for (size_t begin = text.find('\n') + 1; begin < text.size();) {
    const size_t end = text.find('\n', begin) + 1;
    const std::string line = text.substr(begin, end - begin);
    const char first = line[line.rfind(',') + 1];
    if (first != 'f') part[0] += line;  // ape to elk
    if (first > 'c') part[1] += line;   // dog to fox
    begin = end;
  }
  write("part-0.csv", part[0]), write("part-1.csv", part[1]);
  const std::string fit = "fit '" + path("part-{rank}.csv") + "' --mpi --hidden 16 --epochs 60 --out ";
  const std::string names = R"("class_names":["ape","bee","cat","dog","elk","fox"],)";
  const std::string good = write("good.json", R"({"format":"tessera-design","version":1,"classes":6,)" + names +
                                                  R"("sets":[[0,1,2,3],[0,1,4],[2,3,4],[3,4,5]]})");
  const Outcome outcome = run_on(2, fit + path("model") + " --design " + good);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(json("predict " + path("model") + " " + test + " --rule naive-bayes")["labels"].size(), 60U);
  const std::string bad = write(
      "bad.json", R"({"format":"tessera-design","version":1,"classes":6,)" + names + R"("sets":[[0,1,2,3,4],[0,5]]})");
  const Outcome refused = run_on(2, fit + path("none") + " --design " + bad);
  EXPECT_NE(refused.status, 0);
  EXPECT_THAT(refused.err, HasSubstr("no rank holds rows of all 2 classes of expert 1"));
  EXPECT_FALSE(std::filesystem::exists(path("none")));
}
#endif

TEST_F(ExpertsFitCli, LabelersWithRestrictedSets) {
  const std::string design = write(
      "d.json",
      R"({"format":"tessera-design","version":1,"classes":3,"class_names":["x","y","z"],"sets":[[0,1],[0,2],[1,2]]})");
  const std::string answers = write("a.csv", "one,two,three\nx,x,y\nx,z,z\ny,x,y\n,x,y\n-1,2,z\n");
  for (const std::string rule : {"dawid-skene", "one-coin", "deficit", "naive-bayes"}) {
    const nlohmann::json result = json("combine " + design + " " + answers + " --rule " + rule);
    EXPECT_EQ(result["labels"][0], "x") << rule;
    EXPECT_EQ(result["labels"][1], "z") << rule;
    EXPECT_EQ(result["labels"][2], "y") << rule;
  }
  EXPECT_EQ(json("combine " + design + " " + answers + " --rule one-coin")["labeler_error"].size(), 3U);
}

// Without column names the first row counts too; fit refuses, since it could not tell the class's column.
TEST_F(ExpertsFitCli, TablesWithoutColumnNamesLoseNoRow) {
  const std::string design = write(
      "d.json",
      R"({"format":"tessera-design","version":1,"classes":3,"class_names":["x","y","z"],"sets":[[0,1],[0,2],[1,2]]})");
  const std::string soft = ".9,.1,.8,.2,.4,.6\n.1,.9,.5,.5,.9,.1\n", truth = write("t.csv", "x\ny\n");
  for (const std::string& answers : {soft, "1,2,3,4,5,6\n" + soft, std::string("0,0,2\n1,2,1\n"),
                                     std::string("x,x,z\ny,z,y\n"), std::string("0,1,2\nx,x,z\ny,z,y\n")}) {
    const nlohmann::json result =
        json("combine " + design + " " + write("a.csv", answers) + " --rule deficit --truth " + truth);
    EXPECT_EQ(result["labels"], nlohmann::json({"x", "y"})) << answers;
    EXPECT_EQ(result["scores"]["accuracy"], 1) << answers;
  }
  expect_refusal("fit " + write("n.csv", "1.5,2,x\n1,2,y\n") + " --size 2 --out " + path("m"), "names above them");
}

TEST_F(ExpertsFitCli, PluralityWarnsWhereItIsUnsafe) {
  const std::string unsafe =
      write("d.json", R"({"format":"tessera-design","version":1,"classes":4,"sets":[[0,1],[0,2],[0,3],[1,2,3]]})");
  const std::string answers = write("a.csv", "a,b,c,d\n0,0,0,1\n");
  const Outcome outcome = run("combine " + unsafe + " " + answers + " --rule plurality");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.err, HasSubstr("plurality is unsafe"));
  EXPECT_EQ(json("combine " + unsafe + " " + answers + " --rule plurality")["warnings"].size(), 1U);
  EXPECT_EQ(json("combine " + unsafe + " " + answers + " --rule deficit")["warnings"].size(), 0U);
}

TEST_F(ExpertsFitCli, BadAnswersAreRefused) {
  const std::string design =
      write("d.json", R"({"format":"tessera-design","version":1,"classes":3,"sets":[[0,1],[0,2],[1,2]]})");
  const std::string good = write("good.csv", "a,b,c\n0,0,1\n");
  const auto refuse = [&](const std::string& answers, const std::string& expected) {
    expect_refusal("combine " + design + " " + write("a.csv", answers) + " --out " + path("out.csv"), expected);
  };
  refuse("a,b,c\n0,1,1\n", "class 1 is not in the expert's set");
  refuse("a,b,c\n0,0\n", "row 2 has 2 fields");
  refuse("a,b,c\n0,0,cat\n", "expected a number, found 'cat'");
  refuse("a,b,c\n0,0,1.5\n", "expected a class number");
  refuse("a,b\n0,0\n", "expected 6 columns of probabilities or 3 of labels");
  refuse("a,b,c\n", "holds no input");
  refuse("", "expected a first line of column names");
  refuse("a,b,c,d,e,f\n.5,.5,.9,.2,1,0\n", "the 2 probabilities sum to 1.1");
  refuse("a,b,c,d,e,f\n.5,.5,nan,1,1,0\n", "expected a number, found 'nan'");
  refuse("a,b,c,d,e,f\n.5,.5,-1,2,1,0\n", "expected a probability");
  refuse("\x93NUMPY", "a.csv");
  expect_refusal("combine " + design + " " + path("none.csv"), "none.csv");
  const std::filesystem::path folder = path("folder");
  std::filesystem::create_directory(folder);
  expect_refusal("combine " + folder.string() + " " + good, "found a folder; no design.json is in it");
  std::filesystem::copy_file(design, folder / "design.json");
  expect_refusal("combine " + folder.string() + " " + good,
                 "give the design in it: " + (folder / "design.json").string());
  expect_refusal("combine " + design + " " + folder.string(), "cannot read a folder; expected a regular file");
  expect_refusal("combine " + design + " " + good + " --rule best", "unknown rule 'best'");
  expect_refusal("combine " + design + " " + good + " --temperature 0", "--temperature");
  expect_refusal("combine " + design + " " + good + " --out " + path("no/out.csv"), "does not exist");
  expect_refusal("combine " + design + " " + good + " --calibrate " + good, "expected both");
  expect_refusal("combine " + design + " " + good + " --truth " + write("t.csv", "y\n0\n1\n"), "one per input");
  expect_refusal("combine " + design + " " + good + " --truth " + write("t.csv", "y\n7\n"), "'7' is not one of");
  expect_refusal("combine " + design + " " + good + " --gate " + write("g.csv", "a,b,c\n0,2,1\n"), "gate in [0, 1]");
}

TEST_F(ExpertsFitCli, BadFitsAreRefused) {
  const std::string train = blobs("train.csv", 60, 1), out = " --out " + path("model");
  expect_refusal("fit " + train + out, "exactly one of --design FILE and --size R");
  expect_refusal("fit " + path("none.csv") + out + kSmall, "none.csv");
  expect_refusal("fit " + train + out + kSmall + " --learner forest", "unknown learner 'forest'");
  expect_refusal("fit " + train + out + kSmall + " --epochs 0", "epochs");
  expect_refusal("fit " + train + out + kSmall + " --learner cnn", "expected images");
  expect_refusal("fit " + train + out + kSmall + " --image 1,2,2", "does not make up the 2 features");
  expect_refusal("fit " + write("bad.csv", "a,y\n1,2\n1\n") + out + kSmall, "row 3 has 1 fields");
  expect_refusal("fit " + write("idx3", "\x01\x02") + out + kSmall, "idx3");
  expect_refusal("fit " + train + " --out " + train + kSmall, "found a file");
  const std::string design =
      write("d.json", R"({"format":"tessera-design","version":1,"classes":3,"sets":[[0,1],[0,2],[1,2]]})");
  expect_refusal("fit " + train + out + " --design " + design, "has 6 classes");
  const std::string lacking = write("e.json", R"({"format":"tessera-design","version":1,"classes":7,
      "class_names":["ape","bee","cat","dog","elk","fox","gnu"],"sets":[[0,1,2,3,4,5,6]]})");
  expect_refusal("fit " + train + out + " --design " + lacking, "no row of class 'gnu'");
  EXPECT_EQ(run("fit " + train + out + kSmall).status, 0);
  expect_refusal("fit " + train + out + " --size 3 --hidden 16 --epochs 60 --seed 4", "other settings or data");
  expect_refusal("fit " + blobs("more.csv", 66, 1) + out + kSmall, "other settings or data");
  expect_refusal("predict " + path("elsewhere") + " " + train, "holds no experts");
  expect_refusal("predict " + path("model") + " " + write("wide.csv", "a,b,c,y\n1,2,3,ape\n"), "expected rows of 2");
  expect_refusal("predict " + path("model") + " " + train + " --adaptive maybe", "unknown guarantee");
  expect_refusal("predict " + path("model") + " " + train + " --adaptive same-label --rule soft-sum",
                 "quadratic, balance or deficit");
  expect_refusal("predict " + path("model") + " " + train + " --gate", "--calibrate");
  std::filesystem::resize_file(path("model/expert-00001.bin"), 30);
  expect_refusal("predict " + path("model") + " " + train, "expert-00001.bin");
  std::filesystem::remove(path("model/expert-00001.bin"));
  expect_refusal("predict " + path("model") + " " + train, "run the same fit command again");
}

// Killed outright in the middle; the same command then finishes, keeps what was there, and ends with the same bytes.
TEST_F(ExpertsFitCli, AKilledFitResumesToTheSameExperts) {
  const std::string train = blobs("train.csv", 600, 1);
  const std::string options = " --size 2 --hidden 64 --epochs 150 --seconds 0.2 --seed 3";
  ASSERT_EQ(run("fit " + train + " --out " + path("whole") + options).status, 0);
  const std::string command = std::string("exec ") + TESSERA_PROGRAM + " --threads 1 experts fit " + train + " --out " +
                              path("model") + options + " >/dev/null 2>&1";
  const pid_t child = fork();
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    _exit(127);
  }
  int status = 0;
  bool ended = false;
  while (!ended && !std::filesystem::exists(path("model/expert-00001.bin"))) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ended = waitpid(child, &status, WNOHANG) == child;
  }
  ASSERT_FALSE(ended) << "ended before it could be killed";
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(run("predict " + path("model") + " " + train).status, 2);
  const nlohmann::json resumed = json("fit " + train + " --out " + path("model") + options);
  EXPECT_GE(resumed["resumed"].get<int>(), 2);
  EXPECT_LT(resumed["resumed"].get<int>(), resumed["experts"].get<int>());
  for (int j = 0; j < resumed["experts"].get<int>(); ++j) {
    const std::string name = fmt::format("/expert-{:05}.bin", j);
    EXPECT_EQ(read_file(path("model") + name), read_file(path("whole") + name)) << name;
  }
}

}  // namespace
}  // namespace tessera
