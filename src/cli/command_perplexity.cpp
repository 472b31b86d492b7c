#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/model_registry.h"
#include "tessera/base/error.h"
#include "tessera/base/file.h"
#include "tessera/base/statistics.h"
#include "tessera/engine/session.h"

namespace tessera::cli {
namespace {

struct PerplexityCommand {
  std::string model;
  std::string file;
  std::string method = "dense";
  int64_t context = 0;
  bool json = false;
};

struct PerplexityResult {
  Interval negative_log_likelihood;  // per token, interval over windows
  int64_t tokens = 0;
  int64_t windows = 0;
};

// Each window of `context` tokens is a session of its own; every token but the first is scored.
PerplexityResult measure(const std::shared_ptr<const model::Model>& model, const engine::Method& method,
                         std::span<const int32_t> tokens, int64_t context) {
  std::vector<double> losses;
  std::vector<int64_t> windows;
  PerplexityResult result;
  for (size_t begin = 0; begin + 1 < tokens.size(); begin += static_cast<size_t>(context)) {
    const auto window = tokens.subspan(begin, std::min(static_cast<size_t>(context), tokens.size() - begin));
    Session session(model, method, {});
    for (const double loss : session.token_losses(window)) {
      losses.push_back(loss);
      windows.push_back(result.windows);
    }
    ++result.windows;
  }
  if (losses.empty()) throw Error(ErrorCode::invalid_argument, "perplexity: expected at least two tokens of text");
  result.tokens = static_cast<int64_t>(losses.size());
  result.negative_log_likelihood = bootstrap_mean(losses, {}, windows);
  return result;
}

void run_perplexity(const PerplexityCommand& command) {
  const std::string text = read_file(command.file);
  const engine::Method method = engine::Method::parse(command.method);
  const auto model = model::Model::load(resolve_model(command.model));
  const int64_t context = command.context > 0 ? command.context : model->config().context_length;
  const std::vector<int32_t> tokens = model->tokenizer().encode(text, {.add_special = false, .parse_special = false});
  const PerplexityResult result = measure(model, method, tokens, context);
  const Interval& loss = result.negative_log_likelihood;
  if (command.json) {
    const nlohmann::json object = {{"method", method.str()},
                                   {"perplexity", std::exp(loss.estimate)},
                                   {"lower", std::exp(loss.lower)},
                                   {"upper", std::exp(loss.upper)},
                                   {"tokens", result.tokens},
                                   {"windows", result.windows},
                                   {"context", context}};
    fmt::print("{}\n", object.dump(2));
  } else {
    fmt::print("{}: perplexity {:.4f} [{:.4f}, {:.4f}] over {} tokens in {} windows of {}\n", method.str(),
               std::exp(loss.estimate), std::exp(loss.lower), std::exp(loss.upper), result.tokens, result.windows, context);
  }
}

}  // namespace

void add_perplexity(CLI::App& app) {
  const auto command = std::make_shared<PerplexityCommand>();
  CLI::App* perplexity = app.add_subcommand("perplexity", "perplexity of a text under a method");
  perplexity->add_option("MODEL", command->model, "Hugging Face directory, .gguf file, or a name")->required();
  perplexity->add_option("--file", command->file, "the text")->required();
  perplexity->add_option("--method", command->method, "prefill and cache methods to measure");
  perplexity->add_option("--context", command->context, "tokens per window; 0: the model's context")
      ->check(CLI::NonNegativeNumber);
  perplexity->add_flag("--json", command->json, "print one JSON object");
  perplexity->callback([command] { run_perplexity(*command); });
}

}  // namespace tessera::cli
