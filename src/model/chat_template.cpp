#include "tessera/model/chat_template.h"

#include <algorithm>
#include <optional>

#include "model/chat_template_shape.h"
#include "model/quote.h"
#include "model/text/utf8.h"
#include "tessera/base/error.h"

namespace tessera::model {
namespace {

// Shapes (see jinja_shape) of the templates, or of the parts of them that decide.
constexpr std::string_view kMessages = "{%formessageinmessages%}";
constexpr std::string_view kChatmlTurn = R"({{'<|im_start|>'+message['role']+'\n'+message['content']+'<|im_end|>\n'}})";
constexpr std::string_view kChatmlEnd = R"({%ifadd_generation_prompt%}{{'<|im_start|>assistant\n'}}{%endif%})";
constexpr std::string_view kNoFirstSystem = "{%ifloop.firstandmessages[0]['role']!='system'%}";
constexpr std::string_view kDefaultSystemStart = R"({{'<|im_start|>system\n)";
constexpr std::string_view kDefaultSystemEnd = R"(<|im_end|>\n'}})";

constexpr std::string_view kQwenFirstSystem =
    R"({{'<|im_start|>system\n'+messages[0]['content']+'<|im_end|>\n'}}{%else%})";
constexpr std::string_view kQwenTurns =
    "{%endif%}{%endif%}{%formessageinmessages%}{%if(message['role']=='user')or(message['role']=='system'andnotloop."
    "first)"
    "or(message['role']=='assistant'andnotmessage.tool_calls)%}";

constexpr std::string_view kLlama2 =
    R"({%ifmessages[0]['role']=='system'%}{%setloop_messages=messages[1:]%})"
    R"({%setsystem_message=messages[0]['content']%}{%else%}{%setloop_messages=messages%}{%setsystem_message=false%})"
    R"({%endif%}{%formessageinloop_messages%}{%if(message['role']=='user')!=(loop.index0%2==0)%})"
    R"({{raise_exception('Conversation roles must alternate user/assistant/user/assistant/...')}}{%endif%})"
    R"({%ifloop.index0==0andsystem_message!=false%})"
    R"({%setcontent='<<SYS>>\n'+system_message+'\n<</SYS>>\n\n'+message['content']%}{%else%})"
    R"({%setcontent=message['content']%}{%endif%}{%ifmessage['role']=='user'%})"
    R"({{bos_token+'[INST] '+content.strip()+' [/INST]'}}{%elifmessage['role']=='assistant'%})"
    R"({{' '+content.strip()+' '+eos_token}}{%endif%}{%endfor%})";

constexpr std::string_view kLlama3Turns =
    R"({%setloop_messages=messages%}{%formessageinloop_messages%}{%setcontent='<|start_header_id|>'+message['role'])"
    R"(+'<|end_header_id|>\n\n'+message['content']|trim+'<|eot_id|>'%}{%ifloop.index0==0%})"
    R"({%setcontent=bos_token+content%}{%endif%}{{content}}{%endfor%})";
constexpr std::string_view kLlama3Prompt = R"({{'<|start_header_id|>assistant<|end_header_id|>\n\n'}})";
constexpr std::string_view kLlama3End =
    R"({%ifadd_generation_prompt%}{{'<|start_header_id|>assistant<|end_header_id|>\n\n'}}{%endif%})";
// Llama-3.1 and 3.2, in this order, with what serves tools in between.
constexpr std::string_view kLlama31Parts[] = {
    R"({%setdate_string=')",
    R"({%ifmessages[0]['role']=='system'%}{%setsystem_message=messages[0]['content']|trim%}{%setmessages=messages[1:]%})"
    R"({%else%}{%setsystem_message=''%}{%endif%})",
    R"({{'<|start_header_id|>system<|end_header_id|>\n\n'}})",
    R"({{'Cutting Knowledge Date: December 2023\n'}}{{'Today Date: '+date_string+'\n\n'}})",
    R"({{system_message}}{{'<|eot_id|>'}})",
    R"({{'<|start_header_id|>'+message['role']+'<|end_header_id|>\n\n'+message['content']|trim+'<|eot_id|>'}})",
};

// The text of a Jinja string as jinja_shape writes it; nothing when it has an escape other than \n.
std::optional<std::string> unescape(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      result += text[i];
    } else if (text.substr(i).starts_with("\\n")) {
      result += '\n';
      ++i;
    } else {
      return std::nullopt;
    }
  }
  return result;
}

// What stands between `start` and `end` at the front of `shape`, which is then moved behind `end`.
std::optional<std::string> take_between(std::string_view& shape, std::string_view start, std::string_view end) {
  if (!shape.starts_with(start)) return std::nullopt;
  const size_t close = shape.find(end, start.size());
  if (close == std::string_view::npos) return std::nullopt;
  const std::string_view inner = shape.substr(start.size(), close - start.size());
  if (inner.find('\'') != std::string_view::npos) return std::nullopt;
  shape.remove_prefix(close + end.size());
  return unescape(inner);
}

bool take(std::string_view& shape, std::string_view part) {
  if (!shape.starts_with(part)) return false;
  shape.remove_prefix(part.size());
  return true;
}

// ChatML: the text of the default system message, empty for none; nothing when the template is another one.
std::optional<std::string> chatml_system(std::string_view shape) {
  take(shape, "{%ifnotadd_generation_promptisdefined%}{%setadd_generation_prompt=false%}{%endif%}");
  if (!take(shape, kMessages)) return std::nullopt;
  std::optional<std::string> system = std::string();
  if (take(shape, kNoFirstSystem)) {
    system = take_between(shape, kDefaultSystemStart, kDefaultSystemEnd);
    if (!system || !take(shape, "{%endif%}")) return std::nullopt;
  }
  if (!take(shape, kChatmlTurn) || !take(shape, "{%endfor%}") || shape != kChatmlEnd) return std::nullopt;
  return system;
}

// Qwen2.5: what serves tools stands before and behind the parts compared here.
std::optional<std::string> qwen25_system(std::string_view shape) {
  const size_t first = shape.find(kQwenFirstSystem);
  if (!shape.starts_with("{%iftools%}") || !shape.ends_with(kChatmlEnd) || first == std::string_view::npos) {
    return std::nullopt;
  }
  shape.remove_prefix(first + kQwenFirstSystem.size());
  std::optional<std::string> system = take_between(shape, kDefaultSystemStart, kDefaultSystemEnd);
  if (!system || !take(shape, kQwenTurns) || !take(shape, kChatmlTurn)) return std::nullopt;
  return system;
}

// Llama-3.1 and 3.2: the date the template falls back to.
std::optional<std::string> llama31_date(std::string_view shape) {
  if (!shape.starts_with("{{bos_token}}") || !shape.ends_with(kLlama3End)) return std::nullopt;
  std::optional<std::string> date;
  for (const std::string_view part : kLlama31Parts) {
    const size_t place = shape.find(part);
    if (place == std::string_view::npos) return std::nullopt;
    shape.remove_prefix(place);
    if (!date) {
      date = take_between(shape, part, "'%}");
      if (!date || date->empty()) return std::nullopt;
    } else {
      shape.remove_prefix(part.size());
    }
  }
  return date;
}

// As Python's str.strip.
std::string_view strip(std::string_view text) {
  const auto is_space = [](const text::CodePoint& c) {
    return c.valid && (text::is_white_space(c.value) || (c.value >= 0x1C && c.value <= 0x1F));
  };
  while (!text.empty() && is_space(text::first_code_point(text)))
    text.remove_prefix(text::first_code_point(text).length);
  while (!text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
    const text::CodePoint last = text::first_code_point(text.substr(start));
    if (start + last.length != text.size() || !is_space(last)) break;
    text = text.substr(0, start);
  }
  return text;
}

void check_roles(std::span<const ChatMessage> messages) {
  if (messages.empty()) throw Error(ErrorCode::invalid_argument, "chat: expected at least one message, found none");
  for (const ChatMessage& message : messages) {
    if (message.role != "system" && message.role != "user" && message.role != "assistant") {
      throw Error(ErrorCode::invalid_argument, "chat: expected the role system, user or assistant, found {}",
                  quote(message.role));
    }
  }
}

std::string render_chatml(std::span<const ChatMessage> messages, const std::string& default_system, bool prompt) {
  std::string text;
  if (!default_system.empty() && messages[0].role != "system") {
    text = "<|im_start|>system\n" + default_system + "<|im_end|>\n";
  }
  for (const ChatMessage& message : messages) {
    text += "<|im_start|>" + message.role + "\n" + message.content + "<|im_end|>\n";
  }
  return prompt ? text + "<|im_start|>assistant\n" : text;
}

std::string render_llama2(std::span<const ChatMessage> messages) {
  std::string system;
  if (messages[0].role == "system") {
    system = "<<SYS>>\n" + messages[0].content + "\n<</SYS>>\n\n";
    messages = messages.subspan(1);
  }
  std::string text;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != (i % 2 == 0 ? "user" : "assistant")) {
      throw Error(ErrorCode::invalid_argument, "chat: expected user and assistant in turn, found {} as message {}",
                  quote(messages[i].role), i);
    }
    const std::string content = i == 0 ? system + messages[i].content : messages[i].content;
    if (i % 2 == 0) {
      text.append("<s>[INST] ").append(strip(content)).append(" [/INST]");
    } else {
      text.append(" ").append(strip(content)).append(" </s>");
    }
  }
  return text;
}

std::string llama3_turn(std::string_view role, std::string_view content) {
  return fmt::format("<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>", role, strip(content));
}

std::string render_llama3(std::span<const ChatMessage> messages, const std::string& date, bool prompt) {
  std::string text = "<|begin_of_text|>";
  if (!date.empty()) {
    const bool has_system = messages[0].role == "system";
    text += "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: " + date +
            "\n\n";
    text.append(has_system ? strip(messages[0].content) : "").append("<|eot_id|>");
    if (has_system) messages = messages.subspan(1);
  }
  for (const ChatMessage& message : messages) text += llama3_turn(message.role, message.content);
  return prompt ? text + "<|start_header_id|>assistant<|end_header_id|>\n\n" : text;
}

}  // namespace

ChatTemplate ChatTemplate::recognise(std::string_view jinja) {
  constexpr size_t kShown = 80;
  ChatTemplate result;
  const std::string shape = jinja_shape(jinja);
  if (const std::optional<std::string> system = chatml_system(shape)) {
    const bool smollm = system->find("SmolLM") != std::string::npos;
    result.family_ = system->empty() ? ChatFamily::chatml : smollm ? ChatFamily::smollm2 : ChatFamily::qwen2;
    result.default_system_ = *system;
  } else if (const std::optional<std::string> qwen = qwen25_system(shape)) {
    result.family_ = ChatFamily::qwen2;
    result.default_system_ = *qwen;
  } else if (shape == kLlama2) {
    result.family_ = ChatFamily::llama2;
  } else if (shape == std::string(kLlama3Turns).append(kLlama3End)) {
    result.family_ = ChatFamily::llama3;
  } else if (shape == std::string(kLlama3Turns).append(kLlama3Prompt)) {
    result.family_ = ChatFamily::llama3;
    result.always_prompts_ = true;
  } else if (const std::optional<std::string> date = llama31_date(shape)) {
    result.family_ = ChatFamily::llama3;
    result.date_ = *date;
  } else {
    result.unknown_ = jinja.substr(0, kShown);
  }
  return result;
}

std::string ChatTemplate::render(std::span<const ChatMessage> messages, const RenderOptions& options) const {
  check_roles(messages);
  const bool prompt = options.add_generation_prompt || always_prompts_;
  switch (family_) {
    case ChatFamily::none:
      break;
    case ChatFamily::chatml:
    case ChatFamily::smollm2:
    case ChatFamily::qwen2:
      return render_chatml(messages, default_system_, prompt);
    case ChatFamily::llama2:
      return render_llama2(messages);
    case ChatFamily::llama3:
      return render_llama3(messages, date_, prompt);
  }
  if (unknown_.empty()) throw Error(ErrorCode::unsupported, "chat: this model has no chat template; give plain text");
  throw Error(ErrorCode::unsupported, "chat: this model's chat template is not supported; it begins with {}",
              quote(unknown_));
}

}  // namespace tessera::model
