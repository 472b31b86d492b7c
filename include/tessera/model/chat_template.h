// Chat templates of the supported families. A template is recognised by the shape of the model's own Jinja text; an
// unknown one is Error(unsupported) when it is used, never a silent default.
//
//   std::string prompt = template.render({{"user", "Hello"}}, {.add_generation_prompt = true});
//   tokenizer.encode(prompt, {.add_special = false, .parse_special = true});
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tessera::model {

struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

enum class ChatFamily : uint8_t { none, chatml, smollm2, qwen2, llama2, llama3 };

struct RenderOptions {
  bool add_generation_prompt = true;
};

class ChatTemplate {
 public:
  ChatTemplate() = default;
  // `jinja`: the model's own template, or empty for a model without one.
  static ChatTemplate recognise(std::string_view jinja);

  ChatFamily family() const { return family_; }
  bool available() const { return family_ != ChatFamily::none; }
  std::string render(std::span<const ChatMessage> messages, const RenderOptions& options) const;

 private:
  ChatFamily family_ = ChatFamily::none;
  bool unknown_ = false;
};

}  // namespace tessera::model
