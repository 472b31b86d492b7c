// The program as its users meet it: exit status, one sentence on standard error, results on standard output.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "support/program.h"
#include "support/tiny_model.h"
#include "tessera/base/file.h"

namespace tessera {
namespace {

using testing::Outcome;

class CliTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        std::filesystem::path(::testing::TempDir()) / ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder_);
    model_ = tessera::testing::write_tiny_model(2).string();
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Outcome run(const std::string& arguments) const {
    return testing::run_program(TESSERA_PROGRAM, arguments, folder_ / "stderr");
  }

  // Exit 2, and exactly one line on standard error that contains `expected`.
  void expect_refusal(const std::string& arguments, const std::string& expected) const {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.status, 2) << arguments << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find(expected), std::string::npos) << arguments << "\n" << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "") << arguments;
  }

  // A copy of the tiny model in which `file` holds `content`.
  std::string model_with(const std::string& file, const std::string& content) const {
    const std::filesystem::path copy = folder_ / "damaged model";
    std::filesystem::remove_all(copy);
    std::filesystem::copy(model_, copy);
    write_file_atomically(copy / file, content);
    return "'" + copy.string() + "'";
  }

  // Every command that loads a model refuses this one; `bench` leaves no folder behind.
  void expect_model_refused(const std::string& model, const std::string& expected) const {
    const std::filesystem::path out = folder_ / "out";
    write_file_atomically(folder_ / "text", "some text");
    expect_refusal("generate " + model + " --prompt a", expected);
    expect_refusal("perplexity " + model + " --file " + (folder_ / "text").string(), expected);
    expect_refusal("bench " + model + " --tasks kv --examples 1 --out " + out.string(), expected);
    EXPECT_FALSE(std::filesystem::exists(out)) << expected;
  }

  // Starts the program without waiting for it; its output goes to a file.
  pid_t start(const std::vector<std::string>& arguments) const {
    const pid_t child = fork();
    if (child != 0) return child;
    std::vector<char*> argv = {const_cast<char*>(TESSERA_PROGRAM)};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    const std::string log = (folder_ / "log").string();
    if (std::freopen(log.c_str(), "w", stdout) == nullptr || std::freopen(log.c_str(), "w", stderr) == nullptr)
      _exit(126);
    execv(argv[0], argv.data());
    _exit(127);
  }

  std::filesystem::path folder_;
  std::string model_;
};

size_t complete_lines(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return 0;
  const std::string content = read_file(file);
  return static_cast<size_t>(std::count(content.begin(), content.end(), '\n'));
}

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
  expect_refusal("bench " + model_ + " --tasks kv --length 3000 --turns 1 --examples 1 --out /dev/null/out",
                 "/dev/null/out");
}

TEST_F(CliTest, ADamagedModelIsRefused) {
  const std::filesystem::path damaged = folder_ / "damaged.gguf";
  write_file_atomically(damaged, "GGUF\x03");
  expect_refusal("generate " + damaged.string() + " --prompt a", "damaged.gguf");
}

TEST_F(CliTest, DamagedGgufFilesAreRefused) {
  const std::filesystem::path goldens = std::filesystem::path(TESSERA_SOURCE_DIR) / "tests/goldens/models";
  const std::string whole = read_file(goldens / "gguf-llama-q4_1.gguf");
  const std::filesystem::path damaged = folder_ / "damaged.gguf";
  const auto refuse = [&](const std::string& content, const std::string& expected) {
    write_file_atomically(damaged, content);
    expect_model_refused(damaged.string(), expected);
  };
  refuse("", "damaged.gguf");
  refuse("no model at all", "damaged.gguf");
  refuse(whole.substr(0, 100), "damaged.gguf");
  refuse(whole.substr(0, whole.size() / 2), "damaged.gguf");
  refuse(whole.substr(0, whole.size() - 1), "damaged.gguf");
  std::string hostile = whole;  // 2^64 - 1 tensors
  hostile.replace(8, 8, std::string(8, '\xFF'));
  refuse(hostile, "damaged.gguf");
  std::string foreign = whole;  // a quantisation, then an architecture that nobody knows
  const size_t name = foreign.find("llama");
  ASSERT_NE(name, std::string::npos);
  foreign.replace(name, 5, "xyzzy");
  refuse(foreign, "xyzzy");
}

TEST_F(CliTest, DamagedDirectoriesAreRefused) {
  const std::string weights = read_file(std::filesystem::path(model_) / "model.safetensors");
  const std::string config = read_file(std::filesystem::path(model_) / "config.json");
  const std::string tokenizer = read_file(std::filesystem::path(model_) / "tokenizer.json");
  const auto refuse = [&](const std::string& file, const std::string& content, const std::string& expected) {
    expect_model_refused(model_with(file, content), expected);
  };
  refuse("model.safetensors", "", "model.safetensors");
  refuse("model.safetensors", weights.substr(0, weights.size() / 2), "model.safetensors");
  refuse("model.safetensors", std::string(8, '\xFF') + weights.substr(8), "model.safetensors");
  refuse("config.json", config.substr(0, config.size() / 2), "config.json");
  refuse("config.json", std::string(100000, '['), "config.json");
  refuse("config.json", R"({"architectures": ["MambaForCausalLM"]})", "MambaForCausalLM");
  refuse("tokenizer.json", tokenizer.substr(0, tokenizer.size() / 2), "tokenizer.json");
  refuse("tokenizer.json", R"({"model": {"type": "WordPiece", "vocab": {}}})", "WordPiece");
}

TEST_F(CliTest, BadMethodsAreRefused) {
  struct BadMethod {
    const char* text;
    const char* expected;
  };
  const std::filesystem::path out = folder_ / "out";
  for (const auto& [text, expected] :
       std::vector<BadMethod>{{"", "expected a method name"},
                              {"fast", "unknown method 'fast'"},
                              {"dense +", "expected a method name"},
                              {"kivi(", "method 'kivi('"},
                              {"kivi(bits=3)", "expected bits 2 or 4, found 3"},
                              {"kivi(bits=two)", "found 'two'"},
                              {"kivi(bits=4, bits=4)", "expected one value"},
                              {"kivi(colour=4)", "no parameter 'colour'"},
                              {"snapkv(capacity=-1)", "capacity of snapkv"},
                              {"snapkv(capacity=99999999999999999999)", "capacity of snapkv"},
                              {"a-shape + tri-shape", "two policies"},
                              {"snapkv)capacity=4(", "found ')'"}}) {
    const std::string quoted = " '" + std::string(text) + "'";
    expect_refusal("generate " + model_ + " --prompt a --method" + quoted, expected);
    if (*text == 0) continue;
    expect_refusal("bench " + model_ + " --tasks kv --out " + out.string() + " --methods" + quoted, expected);
    EXPECT_FALSE(std::filesystem::exists(out)) << text;
  }
}

TEST_F(CliTest, UnwritableOutputIsRefusedBeforeAnyWork) {
  write_file_atomically(folder_ / "file", "mine");
  const std::string inside = (folder_ / "file" / "out").string();
  const std::string options = " --tasks kv --length 1000 --turns 1 --examples 1 --out ";
  expect_refusal("bench " + model_ + options + inside, inside);
  expect_refusal("bench " + model_ + options + (folder_ / "file").string(), "file");
  expect_refusal("bench " + model_ + options + "/proc/none", "/proc/none");
  EXPECT_EQ(read_file(folder_ / "file"), "mine");
}

TEST_F(CliTest, TheLastOfARepeatedBenchOptionCounts) {
  expect_refusal("bench " + model_ + " --tasks kv --length 1000 --length 5000 --examples 1", "5000");
}

TEST_F(CliTest, TooLongABenchIsRefused) {
  expect_refusal("bench " + model_ + " --tasks kv --length 5000 --examples 1 --out " + (folder_ / "out").string(),
                 "4096");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));
}

// The program is killed outright, twice, at places that nobody chose; what it then lacks is what was not done.
TEST_F(CliTest, AKilledBenchResumesWithoutLossOrRepetition) {
  const std::filesystem::path out = folder_ / "out";
  const std::filesystem::path runs = out / "runs.jsonl";
  const std::vector<std::string> arguments = {
      "bench",    model_,       "--tasks",  "kv,passkey", "--methods",  "dense; snapkv(capacity=64)",
      "--length", "1500",       "--turns",  "3",          "--examples", "4",
      "--out",    out.string(), "--resume", "--threads",  "1"};
  constexpr size_t kTurns = 2 * 2 * 2 * 3 * 4;
  std::string kept;
  for (const size_t lines : {size_t{5}, size_t{23}}) {
    const pid_t child = start(arguments);
    int status = 0;
    bool ended = false;
    while (!ended && complete_lines(runs) < lines) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      ended = waitpid(child, &status, WNOHANG) == child;
    }
    ASSERT_FALSE(ended) << "ended before it could be killed: " << read_file(folder_ / "log");
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    const std::string content = read_file(runs);
    EXPECT_EQ(content.rfind(kept, 0), 0U) << "lines of the run before were lost";
    kept = content.substr(0, content.rfind('\n') + 1);
  }
  int status = 0;
  waitpid(start(arguments), &status, 0);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << read_file(folder_ / "log");
  const std::string content = read_file(runs);
  EXPECT_EQ(content.rfind(kept, 0), 0U) << "lines of the run before were lost";
  std::set<std::string> keys;
  std::ifstream stream(runs);
  size_t lines = 0;
  for (std::string line; std::getline(stream, line); ++lines) {
    const nlohmann::json turn = nlohmann::json::parse(line);
    keys.insert(nlohmann::json{turn["task"], turn["mode"], turn["method"], turn["example"], turn["turn"]}.dump());
  }
  EXPECT_EQ(lines, kTurns);
  EXPECT_EQ(keys.size(), kTurns);
  EXPECT_TRUE(nlohmann::json::parse(read_file(out / "summary.json"))["complete"]);
}

TEST_F(CliTest, TooLongAPromptIsRefused) {
  write_file_atomically(folder_ / "long", std::string(5000, 'x'));
  expect_refusal("generate " + model_ + " --prompt-file " + (folder_ / "long").string(), "trained for 4096");
}

TEST_F(CliTest, GenerateStreamsOrPrintsJson) {
  const Outcome text = run("generate " + model_ + " --prompt hello --max-new-tokens 5");
  EXPECT_EQ(text.status, 0) << text.err;
  const Outcome json =
      run("generate " + model_ + " --prompt hello --max-new-tokens 5 --json --method 'snapkv(capacity=64)'");
  ASSERT_EQ(json.status, 0) << json.err;
  const nlohmann::json object = nlohmann::json::parse(json.out);
  EXPECT_EQ(object["prompt_tokens"], 6);
  EXPECT_EQ(object["method"], "snapkv(capacity=64, window=32, pool=5, pooling=average)");
  EXPECT_GT(object["kv_bytes"].get<int64_t>(), 0);
  EXPECT_GT(object["workspace_bytes"].get<int64_t>(), 0);
  EXPECT_EQ(object["density"], 1);
  EXPECT_EQ(object["skipped_mass"], 0);
  write_file_atomically(folder_ / "prompt", std::string(1500, 'a'));
  const Outcome sparse = run("generate " + model_ + " --prompt-file " + (folder_ / "prompt").string() +
                             " --max-new-tokens 1 --json --method 'a-shape(sinks=64, window=128)' --threads 1");
  ASSERT_EQ(sparse.status, 0) << sparse.err;
  EXPECT_LT(nlohmann::json::parse(sparse.out)["density"].get<double>(), 0.6);
  EXPECT_GT(nlohmann::json::parse(sparse.out)["skipped_mass"].get<double>(), 0);
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
