// Chat templates of the supported families. A template is recognised by the shape of the model's own Jinja text; an
// unknown one is Error(unsupported) when it is used, never a silent default.
//
//   std::string prompt = template.render({{"user", "Hello"}}, {.add_generation_prompt = true});
//   tokenizer.encode(prompt, {.add_special = false, .parse_special = true});
//
// | family  | turns                                              | without a system message                       |
// |---------|----------------------------------------------------|------------------------------------------------|
// | chatml  | <|im_start|>role\ncontent<|im_end|>\n              | nothing, or the text the template names        |
// | smollm2 | the same                                           | the template's text about SmolLM               |
// | qwen2   | the same (Qwen2, Qwen2.5 without tools)            | the template's text                            |
// | llama2  | <s>[INST] user [/INST] assistant </s>              | nothing; <<SYS>> goes into the first user turn |
// | llama3  | <|start_header_id|>role<|end_header_id|>\n\n...    | nothing; 3.1 and 3.2: dates alone              |
//
// Llama renders carry the begin-of-text token themselves: encode them with add_special off. Contents are put in as they
// are (Llama: without white space around them), as the templates do; text in them that spells a control token becomes
// one when the prompt is encoded with parse_special.
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
  // Ends with the header of the assistant's turn. Llama-2 has none: its user turns end with [/INST].
  bool add_generation_prompt = true;
};

class ChatTemplate {
 public:
  ChatTemplate() = default;
  // `jinja`: the model's own template, or empty for a model without one. Never throws on any text.
  static ChatTemplate recognise(std::string_view jinja);

  // none: the model has no template, or one that is not supported.
  ChatFamily family() const { return family_; }
  bool available() const { return family_ != ChatFamily::none; }
  // What Jinja renders with messages and add_generation_prompt set, no tools, and the template's own date where it has
  // one. Throws Error(unsupported) without a supported template (naming its beginning), Error(invalid_argument) when
  // there is no message, a role is unknown, or turns that have to alternate do not.
  std::string render(std::span<const ChatMessage> messages, const RenderOptions& options) const;

 private:
  ChatFamily family_ = ChatFamily::none;
  bool always_prompts_ = false;  // the first Llama-3 template ends with the assistant's header in any case
  std::string default_system_;   // empty: none
  std::string date_;             // Llama-3.1 and later: the day that stands in the system turn; empty: no such turn
  std::string unknown_;          // the beginning of a template that is not supported
};

}  // namespace tessera::model
