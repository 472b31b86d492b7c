#include "tessera/engine/session.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/session_attention.h"
#include "tessera/base/clock.h"
#include "tessera/base/error.h"

namespace tessera::engine {
namespace {

kv::CacheLayout layout_of(const model::Model& model, attention::TileFormat format) {
  const model::ModelConfig& config = model.config();
  return {config.layers, config.kv_heads, config.head_dim, format};
}

// -log softmax(logits[row])[token]
double negative_log_likelihood(const Tensor& logits, int64_t row, int32_t token) {
  const int64_t vocabulary = logits.shape().last();
  const float* scores = logits.data<float>() + row * vocabulary;
  const float top = *std::max_element(scores, scores + vocabulary);
  double sum = 0;
  for (int64_t i = 0; i < vocabulary; ++i) sum += std::exp(static_cast<double>(scores[i] - top));
  return std::log(sum) + top - scores[token];
}

}  // namespace

Session::Session(std::shared_ptr<const model::Model> model, Method method, SessionOptions options)
    : model_(std::move(model)),
      method_(std::move(method)),
      options_(options),
      cache_(layout_of(*model_, options.cache_format), std::make_shared<kv::PagePool>()) {
  if (options_.prefill_chunk < 1) {
    throw Error(ErrorCode::invalid_argument, "prefill_chunk: expected at least 1 token, found {}",
                options_.prefill_chunk);
  }
  if (method_.load) loader_ = method_.load->fork();
}

Session Session::fork() const {
  Session copy(model_, method_, options_);
  copy.cache_ = cache_.fork();
  if (loader_) copy.loader_ = loader_->fork();
  copy.tokens_ = tokens_;
  copy.pending_ = pending_;
  copy.logits_ = logits_;
  copy.first_prefill_done_ = first_prefill_done_;
  return copy;
}

void Session::check_room(int64_t more) const {
  const int64_t limit = model_->config().context_length;
  const int64_t wanted = static_cast<int64_t>(tokens_.size()) + more;
  if (!options_.allow_beyond_context && wanted > limit) {
    throw Error(ErrorCode::limit_exceeded,
                "{}: the prompt needs {} tokens but the model was trained for {}; shorten it or allow running beyond "
                "the context",
                model_->config().name, wanted, limit);
  }
}

void Session::feed(std::span<const int32_t> tokens, SessionAttention& attention) {
  const auto count = static_cast<int64_t>(tokens.size());
  const auto first = static_cast<int64_t>(tokens_.size());
  // Whole tiles, so that every row meets the same tiles in any chunk.
  const int64_t chunk =
      (options_.prefill_chunk + attention::kTileRows - 1) / attention::kTileRows * attention::kTileRows;
  for (int64_t done = 0; done < count;) {
    const int64_t now = std::min(chunk, count - done);
    const bool last = done + now == count;
    attention.begin_chunk(count - done - now);
    const model::ForwardOptions forward{.logits = last ? model::Logits::last : model::Logits::none,
                                        .pool = options_.pool};
    const auto part = tokens.subspan(static_cast<size_t>(done), static_cast<size_t>(now));
    logits_ = model_->forward(part, first + done, attention, forward);
    done += now;
  }
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

SessionAttention Session::attention_for(SessionStage stage) {
  return SessionAttention({.cache = cache_,
                           .method = method_,
                           .loader = loader_.get(),
                           .pool = options_.pool,
                           .stage = stage,
                           .measure_skipped_mass = options_.measure_skipped_mass});
}

SessionStage Session::prompt_stage() const {
  return first_prefill_done_ ? SessionStage::follow_up : SessionStage::first_prefill;
}

void Session::step(int32_t token) {
  check_room(static_cast<int64_t>(pending_.size()) + 1);
  SessionAttention attention = attention_for(SessionStage::decode);
  for (const int32_t earlier : std::exchange(pending_, {})) feed(std::span(&earlier, 1), attention);
  feed(std::span(&token, 1), attention);
}

PrefillStats Session::prefill(std::span<const int32_t> tokens) {
  std::vector<int32_t> all = std::exchange(pending_, {});
  all.insert(all.end(), tokens.begin(), tokens.end());
  if (all.empty()) return {};
  check_room(static_cast<int64_t>(all.size()));
  const Stopwatch watch;
  SessionAttention attention = attention_for(prompt_stage());
  feed(all, attention);
  first_prefill_done_ = true;
  PrefillStats stats = attention.stats();
  stats.tokens = static_cast<int64_t>(all.size());
  const Elapsed elapsed = watch.elapsed();
  stats.wall_ms = elapsed.wall_ms - attention.measuring().wall_ms;
  stats.cpu_ms = elapsed.cpu_ms - attention.measuring().cpu_ms;
  return stats;
}

std::vector<double> Session::token_losses(std::span<const int32_t> tokens) {
  constexpr int64_t kLogitRows = 512;  // bounds the logits held at once
  check_room(static_cast<int64_t>(tokens.size()));
  std::vector<double> losses;
  const auto count = static_cast<int64_t>(tokens.size());
  SessionAttention attention = attention_for(prompt_stage());
  const auto first = static_cast<int64_t>(tokens_.size());
  for (int64_t done = 0; done < count; done += kLogitRows) {
    const int64_t now = std::min(kLogitRows, count - done);
    attention.begin_chunk(count - done - now);
    const auto part = tokens.subspan(static_cast<size_t>(done), static_cast<size_t>(now));
    const Tensor logits =
        model_->forward(part, first + done, attention, {.logits = model::Logits::all, .pool = options_.pool});
    for (int64_t row = 0; row < now && done + row + 1 < count; ++row) {
      losses.push_back(negative_log_likelihood(logits, row, tokens[static_cast<size_t>(done + row + 1)]));
    }
    logits_ = logits.slice(now - 1, 1).clone();
  }
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  first_prefill_done_ = true;
  return losses;
}

PrefillStats Session::prefill(std::string_view text) { return prefill(encode(text)); }

std::vector<int32_t> Session::encode(std::string_view text) const {
  const bool start = tokens_.empty() && pending_.empty();
  return model_->tokenizer().encode(text, {.add_special = start, .parse_special = false});
}

Generation Session::generate(std::string_view question, const GenerateOptions& options) {
  return generate(question.empty() ? std::vector<int32_t>{} : encode(question), options);
}

Generation Session::generate(std::span<const int32_t> question, const GenerateOptions& options) {
  if (options.max_new_tokens < 0) {
    throw Error(ErrorCode::invalid_argument, "max_new_tokens: expected at least 0, found {}", options.max_new_tokens);
  }
  Generation result;
  const Stopwatch watch;
  if (!question.empty() || !pending_.empty()) result.prompt = prefill(question);
  if (!logits_.defined()) {
    throw Error(ErrorCode::invalid_argument, "generate: the session is empty; give a prompt first");
  }
  decode(options, watch, result);
  return result;
}

void Session::decode(const GenerateOptions& options, const Stopwatch& since_question, Generation& result) {
  Sampler sampler(options.sampling);
  model::Detokenizer detokenizer(model_->tokenizer(), options.stop_strings);
  SessionAttention attention = attention_for(SessionStage::decode);
  const auto emit = [&](const std::string& piece) {
    if (piece.empty()) return;
    result.text += piece;
    if (options.on_text) options.on_text(piece);
  };
  const std::vector<int32_t>& ends = model_->config().end_tokens;
  const Stopwatch decoding;
  while (static_cast<int64_t>(result.tokens.size()) < options.max_new_tokens) {
    const int32_t token = sampler.sample({logits_.data<float>(), static_cast<size_t>(logits_.elements())});
    if (result.tokens.empty()) result.ttft_ms = since_question.elapsed().wall_ms;
    result.ended = std::find(ends.begin(), ends.end(), token) != ends.end();
    if (result.ended) break;
    result.tokens.push_back(token);
    emit(detokenizer.push(token));
    result.ended = detokenizer.stopped();
    const bool full =
        !options_.allow_beyond_context && static_cast<int64_t>(tokens_.size()) + 1 >= model_->config().context_length;
    if (result.ended || full || static_cast<int64_t>(result.tokens.size()) == options.max_new_tokens) {
      pending_ = {token};
      break;
    }
    feed(std::span(&token, 1), attention);
  }
  emit(detokenizer.finish());
  result.decode_ms = decoding.elapsed().wall_ms;
  result.decode_density = attention.stats().density;
}

int64_t Session::workspace_bytes() const { return model_->workspace_bytes(options_.prefill_chunk); }

}  // namespace tessera::engine
