#include "cli/command_experts.h"

#include "cli/command.h"

namespace tessera::cli {

void add_experts(CLI::App& app) {
  CLI::App* experts =
      app.add_subcommand("experts", "a classifier of many classes out of small classifiers of a few classes each");
  experts->require_subcommand(1);
  add_experts_design(*experts);
  add_experts_verify(*experts);
  add_experts_select(*experts);
  add_experts_fit(*experts);
  add_experts_predict(*experts);
  add_experts_combine(*experts);
  add_experts_report(*experts);
  add_experts_bound(*experts);
  add_experts_simulate(*experts);
}

}  // namespace tessera::cli
