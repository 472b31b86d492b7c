// `tessera experts design|verify|select|bound|simulate` as their users meet them.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "support/program_test.h"
#include "tessera/base/file.h"

namespace tessera {
namespace {

using testing::Outcome;

class ExpertsDesignCli : public testing::ProgramTest {
 protected:
  ExpertsDesignCli() : ProgramTest("experts-") {}

  std::string design(const std::string& sets, const std::string& classes = "4") const {
    return write("design.json",
                 R"({"format": "tessera-design", "version": 1, "classes": )" + classes + R"(, "sets": )" + sets + "}");
  }
  Outcome run(const std::string& arguments) const {
    return testing::run_program(TESSERA_PROGRAM, "experts " + arguments, path("stderr"));
  }
  // Exit 2, nothing on standard output, a message that says what is wrong.
  void expect_refused(const std::string& arguments, const std::string& part) const {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.status, 2) << arguments << "\n" << outcome.err;
    EXPECT_EQ(outcome.out, "") << arguments;
    EXPECT_NE(outcome.err.find(part), std::string::npos) << arguments << "\n" << outcome.err;
  }
};

TEST_F(ExpertsDesignCli, DesignVerifyAndSimulateAgree) {
  const std::string out = path("fano.json");
  const Outcome made = run("design --classes 7 --size 3 --json --out " + out);
  ASSERT_EQ(made.status, 0) << made.err;
  const auto document = nlohmann::json::parse(made.out);
  EXPECT_EQ(document["sets"].size(), 7U);
  EXPECT_EQ(run("verify " + out).status, 0);
  const Outcome simulated = run("simulate " + out + " --json");
  ASSERT_EQ(simulated.status, 0) << simulated.err;
  EXPECT_NE(simulated.out.find("deficit"), std::string::npos);
}

TEST_F(ExpertsDesignCli, KindsWithLambdaAndClassCosts) {
  const std::string out = path("mixed.json"), costs = write("class_costs.json", "[0, 1, 2, 0, 0.5, 0, 0]");
  const Outcome made = run("design --classes 7 --kind 4:3:2 --kind 3:1 --lambda 3 --seconds 0.3 --class-costs " +
                           costs + " --json --out " + out);
  ASSERT_EQ(made.status, 0) << made.err;
  const auto certificate = nlohmann::json::parse(made.out)["certificate"];
  EXPECT_EQ(certificate["lambda"], 3);
  EXPECT_GE(certificate["cost"].get<double>(), certificate["lower_bound"].get<double>());
  EXPECT_EQ(run("verify " + out + " --lambda 3").status, 0);
  // Without kinds: sets of one size at cost 1 each and what their classes cost.
  const Outcome one = run("design --classes 7 --size 3 --seconds 0.3 --json --class-costs " + costs);
  ASSERT_EQ(one.status, 0) << one.err;
  // Seven triples, every class in three of them.
  EXPECT_EQ(nlohmann::json::parse(one.out)["certificate"]["cost"], 7 + 3 * 3.5);
}

TEST_F(ExpertsDesignCli, RefusesWrongClassCosts) {
  const std::string design = "design --classes 3 --size 2 --out " + path("x.json") + " --class-costs ";
  expect_refused(design + write("short.json", "[1, 2]"), "one per class");
  expect_refused(design + write("text.json", R"([1, "two", 3])"), "no number");
  expect_refused(design + write("negative.json", "[1, -2, 3]"), "class 1");
  expect_refused(design + write("damaged.json", "[1, 2"), "damaged.json");
  expect_refused(design + path("missing.json"), "missing.json");
  expect_refused("design --classes 9 --kind 3 --lambda 0", "lambda");
  EXPECT_FALSE(std::filesystem::exists(path("x.json")));
}

TEST_F(ExpertsDesignCli, RefusesImpossibleProblems) {
  expect_refused("design --classes 0 --size 3 --out " + path("x.json"), "1 to 20000 classes");
  expect_refused("design --classes 9 --size 1", "at least 2");
  expect_refused("design --classes 9 --size 3 --lambda 0", "lambda");
  expect_refused("design --classes nine --size 3", "--classes");
  expect_refused("design --size 3", "--classes");
  expect_refused("design --classes 9", "--size");
  expect_refused("design --classes 9 --kind 3:x", "SIZE:COST");
  expect_refused("design --classes 9 --kind 3:1:2:4", "SIZE:COST");
  expect_refused("design --classes 9 --kind 3:-1", "cost");
  expect_refused("design --classes 9 --size 3 --kind 3", "--kind");
  expect_refused("bound --classes 5 --size 6", "--size");
  expect_refused("bound --classes 5 --size 3 --error 0", "--error");
  EXPECT_FALSE(std::filesystem::exists(path("x.json")));
}

TEST_F(ExpertsDesignCli, RefusesDamagedDesigns) {
  for (const char* command : {"verify ", "select ", "simulate "}) {
    expect_refused(command + design("[[0, 4]]"), "0..3");
    expect_refused(command + design("[[0, 0]]"), "twice");
    expect_refused(command + design("[[0, 1, 2, 3, 1]]"), "only 4");
    expect_refused(command + design("[[]]"), "one or more classes");
    expect_refused(command + design("[[0, 1]]", "\"four\""), "classes");
    expect_refused(command + write("broken.json", "{\"format\": \"tessera-des"), "JSON");
    expect_refused(command + path("missing.json"), "missing.json");
  }
}

TEST_F(ExpertsDesignCli, SelectListsWhatNobodyHolds) {
  const Outcome outcome = run("select " + design("[[0, 1, 2], [2, 3]]") + " --json");
  EXPECT_NE(outcome.out.find("uncovered"), std::string::npos) << outcome.out << outcome.err;
  expect_refused(
      "select " + design("[[0, 1, 2, 3]]") + " --costs " + write("costs.json", "[1, 2]") + " --out " + path("y"),
      "cost");
  expect_refused(
      "select " + design("[[0, 1, 2, 3]]") + " --costs " + write("costs.json", "[-1]") + " --out " + path("y"), "cost");
  EXPECT_FALSE(std::filesystem::exists(path("y")));
}

}  // namespace
}  // namespace tessera
