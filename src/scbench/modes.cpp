#include "scbench/modes.h"

#include <string_view>

namespace tessera::scbench {
namespace {

// The number of leading turns that have to be gone through.
size_t turns_needed(const ModeRun& run) {
  size_t needed = 0;
  for (size_t turn = 0; turn < run.example.turns.size(); ++turn) {
    if (run.wanted(turn)) needed = turn + 1;
  }
  return needed;
}

// Decodes one answer and fills in a record whose prompt was fed at a cost of `fed`.
TurnRecord decode_turn(Conversation& conversation, const ModeRun& run, size_t turn, const FedPrompt& fed,
                       Answer& answer) {
  TurnRecord record;
  record.turn = turn;
  record.prompt_tokens = conversation.length();
  record.reused_tokens = record.prompt_tokens - fed.tokens;
  record.kv_bytes = conversation.kv_bytes();
  answer = conversation.answer(run.limits);
  record.prediction = answer.text;
  record.generated_tokens = static_cast<int64_t>(answer.tokens.size());
  record.prefill_ms = fed.wall_ms;
  record.decode_ms = answer.decode_ms;
  record.ttft_ms = fed.wall_ms + answer.ttft_ms;
  record.density = fed.density;
  record.skipped_mass = fed.skipped_mass;
  return record;
}

// A generated answer may already hold the line end that the next question begins with.
void drop_repeated_stop(const model::Tokenizer& tokenizer, const Answer& answer, Prompt& next) {
  const std::string whole = tokenizer.decode(answer.tokens);
  if (!whole.starts_with(answer.text)) return;
  const std::string stop = whole.substr(answer.text.size());
  std::string& text = next.front().text;
  if (text.starts_with(stop)) text.erase(0, stop.size());
}

}  // namespace

void run_multi_turn(Conversation& conversation, const ModeRun& run) {
  const size_t needed = turns_needed(run);
  Answer previous;
  for (size_t turn = 0; turn < needed; ++turn) {
    Prompt prompt = turn == 0 ? run.prompts.first(run.example) : run.prompts.follow_up(run.example, turn, run.history);
    if (turn > 0 && run.history == History::generated && !run.prompts.chat()) {
      drop_repeated_stop(run.tokenizer, previous, prompt);
    }
    const Begin begin = turn == 0 ? Begin::sequence : Begin::continuation;
    const FedPrompt fed = conversation.feed(encode_prompt(run.tokenizer, prompt, begin));
    const bool wanted = run.wanted(turn);
    if (!wanted && run.history == History::golden) continue;
    TurnRecord record;
    if (run.history == History::golden) {
      record = decode_turn(*conversation.fork(), run, turn, fed, previous);
    } else {
      record = decode_turn(conversation, run, turn, fed, previous);
    }
    if (wanted) run.on_turn(record);
  }
}

void run_multi_request(Conversation& conversation, const ModeRun& run) {
  if (turns_needed(run) == 0) return;
  const FedPrompt context =
      conversation.feed(encode_prompt(run.tokenizer, run.prompts.context(run.example), Begin::sequence));
  for (size_t turn = 0; turn < run.example.turns.size(); ++turn) {
    if (!run.wanted(turn)) continue;
    TurnRecord record;
    {
      const std::unique_ptr<Conversation> request = conversation.fork();
      const Prompt prompt = run.prompts.request(run.example, turn);
      FedPrompt fed = request->feed(encode_prompt(run.tokenizer, prompt, Begin::continuation));
      if (turn == 0) {  // the first request pays for the context
        fed.tokens += context.tokens;
        fed.wall_ms += context.wall_ms;
        fed.density = context.density;
        fed.skipped_mass = context.skipped_mass;
      }
      Answer answer;
      record = decode_turn(*request, run, turn, fed, answer);
    }
    run.on_turn(record);
  }
}

void run_mode(Mode mode, Conversation& conversation, const ModeRun& run) {
  mode == Mode::multi_turn ? run_multi_turn(conversation, run) : run_multi_request(conversation, run);
}

}  // namespace tessera::scbench
