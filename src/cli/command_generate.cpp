#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/model_registry.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"
#include "tessera/engine/session.h"

namespace tessera::cli {
namespace {

struct GenerateCommand {
  std::string model;
  std::string prompt;
  std::string prompt_file;
  std::string method = "dense";
  std::vector<std::string> stop;
  int64_t max_new_tokens = 128;
  float temperature = 0;
  float top_p = 1;
  uint64_t seed = 0;
  bool raw = false;
  bool beyond = false;
  bool json = false;
};

std::vector<int32_t> encode_prompt(const model::Model& model, const std::string& text, bool raw) {
  if (raw || !model.chat_template().available()) {
    return model.tokenizer().encode(text, {.add_special = true, .parse_special = false});
  }
  const model::ChatMessage message{"user", text};
  const std::string rendered = model.chat_template().render(std::span(&message, 1), {.add_generation_prompt = true});
  return model.tokenizer().encode(rendered, {.add_special = false, .parse_special = true});
}

nlohmann::json as_json(const Session& session, const engine::Generation& answer) {
  return {{"text", answer.text},
          {"method", session.method().str()},
          {"model", session.model().config().name},
          {"prompt_tokens", answer.prompt.tokens},
          {"generated_tokens", answer.tokens.size()},
          {"ended", answer.ended},
          {"prefill_ms", answer.prompt.wall_ms},
          {"prefill_cpu_ms", answer.prompt.cpu_ms},
          {"ttft_ms", answer.ttft_ms},
          {"decode_ms", answer.decode_ms},
          {"density", answer.prompt.density},
          {"skipped_mass", answer.prompt.skipped_mass ? nlohmann::json(*answer.prompt.skipped_mass) : nlohmann::json()},
          {"kv_bytes", session.kv_bytes()},
          {"workspace_bytes", session.workspace_bytes()}};
}

void print_summary(const Session& session, const engine::Generation& answer) {
  const auto generated = static_cast<double>(answer.tokens.size());
  fmt::print(stderr,
             "\n[{}: {} prompt tokens in {:.0f} ms (density {:.3f}, skipped mass {:.3f}), {} tokens at {:.1f} "
             "tokens/s, cache {:.1f} MiB, work "
             "space {:.1f} MiB]\n",
             session.method().str(), answer.prompt.tokens, answer.prompt.wall_ms, answer.prompt.density,
             answer.prompt.skipped_mass.value_or(0), answer.tokens.size(),
             answer.decode_ms > 0 ? generated * 1000 / answer.decode_ms : 0,
             static_cast<double>(session.kv_bytes()) / 1048576,
             static_cast<double>(session.workspace_bytes()) / 1048576);
}

void run_generate(const GenerateCommand& command) {
  if (command.prompt.empty() == command.prompt_file.empty()) {
    throw Error(ErrorCode::invalid_argument, "generate: expected exactly one of --prompt and --prompt-file");
  }
  const std::string text = command.prompt.empty() ? read_file(command.prompt_file) : command.prompt;
  const engine::Method method = engine::Method::parse(command.method);
  const auto model = model::Model::load(resolve_model(command.model));
  Session session(model, method, {.allow_beyond_context = command.beyond, .measure_skipped_mass = true});
  engine::GenerateOptions options{.max_new_tokens = command.max_new_tokens,
                                  .sampling = {command.temperature, command.top_p, command.seed},
                                  .stop_strings = command.stop,
                                  .on_text = {}};
  if (!command.json) {
    options.on_text = [](std::string_view piece) {
      std::fwrite(piece.data(), 1, piece.size(), stdout);
      std::fflush(stdout);
    };
  }
  const engine::Generation answer = session.generate(encode_prompt(*model, text, command.raw), options);
  if (command.json) {
    fmt::print("{}\n", as_json(session, answer).dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    print_summary(session, answer);
  }
}

}  // namespace

void add_generate(CLI::App& app) {
  const auto command = std::make_shared<GenerateCommand>();
  CLI::App* generate = app.add_subcommand("generate", "continue a prompt");
  generate
      ->add_option("MODEL", command->model, "Hugging Face directory, .gguf file, or a name from 'tessera models list'")
      ->required();
  generate->add_option("--prompt", command->prompt, "the prompt");
  generate->add_option("--prompt-file", command->prompt_file, "file that holds the prompt");
  generate->add_option("--method", command->method, "what to leave out, for example \"auto + snapkv(capacity=1024)\"");
  generate->add_option("--max-new-tokens", command->max_new_tokens, "most tokens to generate")
      ->check(CLI::NonNegativeNumber);
  generate->add_option("--temperature", command->temperature, "0: greedy");
  generate->add_option("--top-p", command->top_p, "nucleus, in (0, 1]");
  generate->add_option("--seed", command->seed, "of the sampling");
  generate->add_option("--stop", command->stop, "text that ends the answer; may be given several times");
  generate->add_flag("--raw", command->raw, "do not wrap the prompt in the model's chat template");
  generate->add_flag("--beyond-context", command->beyond, "allow more tokens than the model was trained for");
  generate->add_flag("--json", command->json, "print one JSON object instead of the text");
  std::string methods = "Methods, joined by '+', at most one per stage:\n";
  for (const std::string& line : engine::method_help()) methods += "  " + line + "\n";
  generate->footer(methods);
  generate->callback([command] { run_generate(*command); });
}

}  // namespace tessera::cli
