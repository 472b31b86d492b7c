#include "tessera/scbench/bench.h"

#include "scbench/runner.h"
#include "scbench/session_conversation.h"
#include "tessera/base/error.h"

namespace tessera::scbench {
Summary run_bench(const BenchOptions& options) {
  std::vector<engine::Method> methods;
  for (const std::string& text : options.methods) methods.push_back(engine::Method::parse(text));
  const std::shared_ptr<const model::Model> model = model::Model::load(options.model);
  if (const int64_t limit = model->config().context_length;
      options.length > limit && !options.session.allow_beyond_context) {
    throw Error(ErrorCode::limit_exceeded,
                "bench: examples of {} tokens do not fit: the model was trained for {}; choose a smaller length",
                options.length, limit);
  }
  BenchModel bench{model->config().name, model->digest(), model->tokenizer(), {}, {}, {}};
  bench.settings = {{"prefill_chunk", options.session.prefill_chunk},
                    {"cache_format", std::string(attention::to_string(options.session.cache_format))},
                    {"allow_beyond_context", options.session.allow_beyond_context}};
  if (model->chat_template().available()) {
    bench.render = [model](std::span<const model::ChatMessage> messages) {
      return model->chat_template().render(messages, {.add_generation_prompt = true});
    };
  }
  engine::SessionOptions session = options.session;
  session.measure_skipped_mass = true;
  for (size_t i = 0; i < methods.size(); ++i) {
    bench.methods.push_back({options.methods[i], methods[i].str(), [model, method = methods[i], session] {
                               return std::make_unique<SessionConversation>(engine::Session(model, method, session));
                             }});
  }
  return run_bench_on(bench, options);
}

}  // namespace tessera::scbench
