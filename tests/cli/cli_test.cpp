// The program as its users meet it: exit status, one sentence on standard error, results on standard output.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "support/tiny_model.h"
#include "tessera/base/file.h"

namespace tessera {
namespace {

struct Outcome {
  int status = -1;
  std::string out;
  std::string err;
};

class CliTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(::testing::TempDir()) / ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder_);
    model_ = tessera::testing::write_tiny_model(2).string();
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Outcome run(const std::string& arguments) const {
    const std::string errors = (folder_ / "stderr").string();
    const std::string command = std::string(TESSERA_PROGRAM) + " " + arguments + " 2>" + errors + " </dev/null";
    Outcome outcome;
    FILE* pipe = popen(command.c_str(), "r");
    std::array<char, 4096> buffer = {};
    for (size_t got = 0; (got = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) outcome.out.append(buffer.data(), got);
    const int status = pclose(pipe);
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    outcome.err = read_file(errors);
    return outcome;
  }

  // Exit 2, and exactly one line on standard error that contains `expected`.
  void expect_refusal(const std::string& arguments, const std::string& expected) const {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.status, 2) << arguments << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find(expected), std::string::npos) << arguments << "\n" << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "") << arguments;
  }

  std::filesystem::path folder_;
  std::string model_;
};

TEST_F(CliTest, HelpAndVersion) {
  EXPECT_EQ(run("--help").status, 0);
  EXPECT_EQ(run("--version").out.rfind("tessera ", 0), 0U);
  for (const char* command : {"bench", "generate", "models", "models list", "perplexity"}) {
    const Outcome help = run(std::string(command) + " --help");
    EXPECT_EQ(help.status, 0) << command;
    EXPECT_FALSE(help.out.empty()) << command;
  }
}

TEST_F(CliTest, WrongUsage) {
  expect_refusal("", "subcommand");
  expect_refusal("fly", "fly");
  expect_refusal("generate", "MODEL");
  expect_refusal("generate nano --max-new-tokens many --prompt a", "many");
}

TEST_F(CliTest, BadInput) {
  expect_refusal("generate no/such/model --prompt a", "neither a path that exists nor one of the named models");
  expect_refusal("generate " + model_ + " --prompt a --method fast", "unknown method 'fast'");
  expect_refusal("generate " + model_ + " --prompt a --prompt-file b", "exactly one of");
  expect_refusal("generate " + model_ + " --prompt-file " + (folder_ / "none").string(), "no such file");
  expect_refusal("generate " + model_ + " --prompt a --temperature -1", "temperature");
  expect_refusal("perplexity " + model_ + " --file " + (folder_ / "none").string(), "no such file");
  expect_refusal("models fetch unknown", "no model is named 'unknown'");
  expect_refusal("bench " + model_ + " --tasks nothing --out " + (folder_ / "out").string(), "nothing");
  expect_refusal("bench " + model_ + " --tasks kv --methods 'kivi(' --out " + (folder_ / "out").string(), "method");
  expect_refusal("bench " + model_ + " --tasks kv --length 512 --out /dev/null/out", "/dev/null/out");
}

TEST_F(CliTest, ADamagedModelIsRefused) {
  const std::filesystem::path damaged = folder_ / "damaged.gguf";
  write_file_atomically(damaged, "GGUF\x03");
  expect_refusal("generate " + damaged.string() + " --prompt a", "damaged.gguf");
}

TEST_F(CliTest, TooLongAPromptIsRefused) {
  write_file_atomically(folder_ / "long", std::string(5000, 'x'));
  expect_refusal("generate " + model_ + " --prompt-file " + (folder_ / "long").string(), "trained for 4096");
}

TEST_F(CliTest, GenerateStreamsOrPrintsJson) {
  const Outcome text = run("generate " + model_ + " --prompt hello --max-new-tokens 5");
  EXPECT_EQ(text.status, 0) << text.err;
  const Outcome json = run("generate " + model_ + " --prompt hello --max-new-tokens 5 --json --method 'snapkv(capacity=64)'");
  ASSERT_EQ(json.status, 0) << json.err;
  const nlohmann::json object = nlohmann::json::parse(json.out);
  EXPECT_EQ(object["prompt_tokens"], 6);
  EXPECT_EQ(object["method"], "snapkv(capacity=64, window=32, pool=5, pooling=average)");
  EXPECT_GT(object["kv_bytes"].get<int64_t>(), 0);
}

TEST_F(CliTest, PerplexityOfATextIsBoundedByTheVocabulary) {
  write_file_atomically(folder_ / "text", std::string(300, 'a') + std::string(300, 'b'));
  const Outcome outcome = run("perplexity " + model_ + " --context 200 --json --file " + (folder_ / "text").string());
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const nlohmann::json object = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(object["windows"], 3);
  EXPECT_EQ(object["tokens"], 597);
  EXPECT_GT(object["perplexity"].get<double>(), 1.0);
}

TEST_F(CliTest, ModelsListIsJsonOnRequest) {
  const nlohmann::json rows = nlohmann::json::parse(run("models list --json").out);
  ASSERT_GE(rows.size(), 2U);
  EXPECT_EQ(rows[0]["name"], "nano");
}

}  // namespace
}  // namespace tessera
