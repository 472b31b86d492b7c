// Chat templates against Jinja.
#include "tessera/model/chat_template.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>

#include "model/chat_template_shape.h"
#include "model/support.h"
#include "tessera/base/file.h"
#include "tessera/model/gguf.h"

namespace tessera::model {
namespace {

using testing::HasSubstr;

nlohmann::json golden() {
  nlohmann::json file = read_json(std::filesystem::path(TESSERA_SOURCE_DIR) / "tests/goldens/chat_templates.json");
  const bool fits = file.at("magic") == "tessera-chat-goldens" && file.at("version") == 1;
  EXPECT_TRUE(fits)
      << "regenerate with: python3 tools/goldens/make_chat_goldens.py --out tests/goldens/chat_templates.json";
  return file;
}

std::vector<ChatMessage> messages_of(const nlohmann::json& conversation) {
  std::vector<ChatMessage> messages;
  for (const nlohmann::json& message : conversation) messages.push_back({message.at("role"), message.at("content")});
  return messages;
}

ChatFamily family_of(const std::string& name) {
  if (name == "chatml") return ChatFamily::chatml;
  if (name == "smollm2") return ChatFamily::smollm2;
  if (name == "qwen2") return ChatFamily::qwen2;
  if (name == "llama2") return ChatFamily::llama2;
  if (name == "llama3") return ChatFamily::llama3;
  return ChatFamily::none;
}

TEST(ChatTemplate, RendersWhatJinjaRenders) {
  const nlohmann::json file = golden();
  for (const auto& [name, expected] : file.at("templates").items()) {
    SCOPED_TRACE(name);
    const ChatTemplate chat = ChatTemplate::recognise(expected.at("template").get<std::string>());
    EXPECT_EQ(chat.family(), family_of(expected.at("family")));
    ASSERT_TRUE(chat.available());
    for (size_t i = 0; i < file.at("conversations").size(); ++i) {
      const std::vector<ChatMessage> messages = messages_of(file.at("conversations")[i]);
      EXPECT_EQ(chat.render(messages, {.add_generation_prompt = true}), expected.at("prompted")[i]);
      EXPECT_EQ(chat.render(messages, {.add_generation_prompt = false}), expected.at("unprompted")[i]);
    }
  }
}

TEST(ChatTemplate, AnUnknownTemplateIsAnErrorWhenItIsUsed) {
  const std::string jinja = "{% for m in messages %}{{ m.content }}" + std::string(200, 'x') + "{% endfor %}";
  const ChatTemplate chat = ChatTemplate::recognise(jinja);
  EXPECT_EQ(chat.family(), ChatFamily::none);
  EXPECT_FALSE(chat.available());
  const std::vector<ChatMessage> messages = {{"user", "Hello"}};
  const std::string message = error_of(ErrorCode::unsupported, [&] { chat.render(messages, {}); });
  EXPECT_THAT(message, HasSubstr(jinja.substr(0, 80)));
  EXPECT_THAT(message, testing::Not(HasSubstr(jinja.substr(0, 81))));
}

TEST(ChatTemplate, AModelWithoutTemplateSaysSo) {
  const std::vector<ChatMessage> messages = {{"user", "Hello"}};
  for (const ChatTemplate& chat : {ChatTemplate(), ChatTemplate::recognise("")}) {
    EXPECT_FALSE(chat.available());
    EXPECT_THAT(error_of(ErrorCode::unsupported, [&] { chat.render(messages, {}); }), HasSubstr("no chat template"));
  }
}

// A template that differs in anything but layout may render something else: it is not the family's.
TEST(ChatTemplate, AnyChangeOfATemplateMakesItUnknownOrAnother) {
  const nlohmann::json file = golden();
  const std::vector<ChatMessage> messages = {{"user", "Hello"}};
  for (const char* name : {"chatml", "smollm2", "llama2", "llama3"}) {
    const std::string jinja = file.at("templates").at(name).at("template");
    for (size_t i = 0; i < jinja.size(); ++i) {
      std::string changed = jinja;
      changed.erase(i, 1);
      if (jinja_shape(changed) == jinja_shape(jinja)) continue;  // layout
      const ChatTemplate chat = ChatTemplate::recognise(changed);
      if (!chat.available()) continue;
      // Only the default system message may have lost a character.
      EXPECT_THAT(name, testing::StrEq("smollm2"));
      const std::string rendered = chat.render(messages, {});
      EXPECT_THAT(changed, HasSubstr(rendered.substr(19, rendered.find("<|im_end|>") - 19))) << i;
    }
  }
}

TEST(ChatTemplate, LayoutDoesNotMatter) {
  EXPECT_EQ(jinja_shape("{%- if  x -%}\n {{ \"a\" + 'b'+ message.role }} {# no #}{% endif %}"),
            "{%ifx%}{{'ab'+message['role']}}{%endif%}");
  EXPECT_EQ(jinja_shape("{{ 'a\nb  c\\'d' }}"), "{{'a\\nb  c\\'d'}}");
}

TEST(ChatTemplate, TurnsThatCannotBeRenderedAreErrors) {
  const nlohmann::json file = golden();
  const auto named = [&](const char* name) {
    return ChatTemplate::recognise(file.at("templates").at(name).at("template").get<std::string>());
  };
  const std::vector<ChatMessage> none;
  const std::vector<ChatMessage> tool = {{"tool", "x"}};
  const std::vector<ChatMessage> twice = {{"user", "a"}, {"user", "b"}};
  const std::vector<ChatMessage> late = {{"user", "a"}, {"system", "b"}};
  error_of(ErrorCode::invalid_argument, [&] { named("chatml").render(none, {}); });
  EXPECT_THAT(error_of(ErrorCode::invalid_argument, [&] { named("chatml").render(tool, {}); }), HasSubstr("'tool'"));
  error_of(ErrorCode::invalid_argument, [&] { named("llama2").render(twice, {}); });
  error_of(ErrorCode::invalid_argument, [&] { named("llama2").render(late, {}); });
  EXPECT_EQ(named("chatml").render(twice, {.add_generation_prompt = false}),
            "<|im_start|>user\na<|im_end|>\n<|im_start|>user\nb<|im_end|>\n");
}

TEST(ChatTemplate, AnyTextCanBeAskedFor) {
  std::mt19937 random(3);
  const std::string letters = "{}%#-'\"\\ \nabmessage.role+";
  for (int round = 0; round < 3000; ++round) {
    std::string jinja;
    for (uint32_t i = random() % 60; i > 0; --i) jinja += letters[random() % letters.size()];
    EXPECT_FALSE(ChatTemplate::recognise(jinja).available());
  }
  std::string joined = "{{";
  for (int i = 0; i < 300000; ++i) joined += "'a'+";
  EXPECT_FALSE(ChatTemplate::recognise(joined).available());
}

TEST(ChatTemplate, SmolLm2sOwnTemplateIsRecognised) {
  const char* path = std::getenv("TESSERA_SMOLLM2");
  if (path == nullptr) GTEST_SKIP() << "TESSERA_SMOLLM2 does not name SmolLM2-135M-Instruct.Q4_1.gguf";
  const GgufFile file = GgufFile::open(path);
  const ChatTemplate chat = ChatTemplate::recognise(file.metadata().require_string("tokenizer.chat_template"));
  EXPECT_EQ(chat.family(), ChatFamily::smollm2);
  const std::vector<ChatMessage> messages = {{"user", "Hello"}};
  EXPECT_EQ(chat.render(messages, {}),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n");
}

}  // namespace
}  // namespace tessera::model
