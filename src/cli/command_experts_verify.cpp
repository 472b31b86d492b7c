#include <fmt/format.h>

#include <memory>

#include "cli/command_experts.h"
#include "cli/experts_certificate.h"
#include "tessera/base/error.h"

namespace tessera::cli {
namespace {

using namespace tessera::experts;

struct VerifyCommand {
  std::string file;
  int lambda = 1;
  bool json = false;
};

void run_verify(const VerifyCommand& command) {
  const DesignFile file = read_design(command.file);
  const DesignFacts facts = design_facts(file.design);
  if (command.json) {
    nlohmann::json document = to_json(facts);
    document["uncovered"] = facts.pairs.uncovered_pairs;
    fmt::print("{}\n", document.dump(2));
  } else {
    fmt::print("{}", describe(facts, file));
  }
  if (file.design.classes > 1 && facts.pairs.lambda_min < command.lambda) {
    throw Error(ErrorCode::bad_file, "{}: expected every two classes to share {} set(s), found a pair that shares {}",
                command.file, command.lambda, facts.pairs.lambda_min);
  }
}

}  // namespace

void add_experts_verify(CLI::App& experts) {
  const auto command = std::make_shared<VerifyCommand>();
  CLI::App* verify =
      experts.add_subcommand("verify", "count the pairs of a design file again and say what it guarantees");
  verify->add_option("DESIGN", command->file, "design file")->required();
  verify->add_option("--lambda", command->lambda, "sets that every pair must share; otherwise the exit status is 2");
  verify->add_flag("--json", command->json, "print JSON");
  verify->callback([command] { run_verify(*command); });
}

}  // namespace tessera::cli
