// What tokenizer files may say and what they may not: damage is bad_file, what is not supported is named.
#include <gmock/gmock.h>

#include <random>

#include "model/tokenizer_factory.h"
#include "model/tokenizer_json.h"
#include "model/tokenizer_support.h"
#include "tessera/base/file.h"

namespace tessera::model {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

Json parsed(const std::string& name) { return Json::parse(tokenizer_text(name)); }

std::unique_ptr<Tokenizer> load(const Json& json, const std::string& bos = "", const std::string& eos = "") {
  return tokenizer_from_json(json.dump(), bos, eos, "test/tokenizer.json");
}

// The error that loading `name` gives after `change`, and that its message names file and fault.
void expect_error(ErrorCode code, const std::string& name, const std::function<void(Json&)>& change,
                  const std::string& named) {
  Json json = parsed(name);
  change(json);
  const std::string message = error_of(code, [&] { load(json); });
  EXPECT_THAT(message, HasSubstr(named));
  EXPECT_THAT(message, HasSubstr("test/tokenizer.json"));
}

TEST(TokenizerFile, MissingOrMistypedPartsAreDamage) {
  const auto damaged = [](const std::function<void(Json&)>& change, const std::string& named) {
    expect_error(ErrorCode::bad_file, "gpt2", change, named);
  };
  damaged([](Json& j) { j.erase("model"); }, "model");
  damaged([](Json& j) { j["model"] = 3; }, "model");
  damaged([](Json& j) { j["model"].erase("vocab"); }, "vocab");
  damaged([](Json& j) { j["model"]["vocab"] = Json::array({"a"}); }, "vocab");
  damaged([](Json& j) { j["model"]["vocab"]["Ġthe"] = "7"; }, "string");
  damaged([](Json& j) { j["model"]["vocab"]["Ġthe"] = -1; }, "-1");
  damaged([](Json& j) { j["model"]["vocab"]["Ġthe"] = 1.5; }, "1.5");
  damaged([](Json& j) { j["model"]["vocab"]["Ġthe"] = uint64_t{1} << 63; }, "9223372036854775808");
  damaged([](Json& j) { j["model"]["vocab"]["new"] = kLargestVocabulary; }, std::to_string(kLargestVocabulary));
  damaged([](Json& j) { j["model"]["vocab"]["new"] = 5; }, "'new'");
  damaged([](Json& j) { j["model"].erase("merges"); }, "merges");
  damaged([](Json& j) { j["model"]["merges"].push_back("a"); }, "'a'");
  damaged([](Json& j) { j["model"]["merges"].push_back("a b c"); }, "'a b c'");
  damaged([](Json& j) { j["model"]["merges"].push_back("nothing such"); }, "is not a token");
  damaged([](Json& j) { j["model"]["merges"].push_back("z z"); }, "is not a token");  // both are, zz is not
  damaged([](Json& j) { j["model"]["merges"].push_back(j["model"]["merges"][0]); }, "twice");
  damaged([](Json& j) { j["model"]["merges"].push_back({"a", "b", "c"}); }, "two tokens");
  damaged([](Json& j) { j["model"]["merges"].push_back({"a", 1}); }, "two tokens");
  damaged([](Json& j) { j["model"]["unk_token"] = "absent"; }, "unk_token");
  damaged([](Json& j) { j["model"]["ignore_merges"] = "yes"; }, "ignore_merges");
  damaged([](Json& j) { j["added_tokens"] = "x"; }, "added_tokens");
  damaged([](Json& j) { j["added_tokens"][0].erase("content"); }, "content");
  damaged([](Json& j) { j["added_tokens"][0].erase("id"); }, "id");
  damaged([](Json& j) { j["added_tokens"][0]["id"] = 17; }, "<|endoftext|>");
  damaged([](Json& j) { j["added_tokens"].push_back(j["added_tokens"][0]); }, "twice");
  damaged([](Json& j) { j["added_tokens"][0]["special"] = 1; }, "special");
  damaged([](Json& j) { j["pre_tokenizer"] = Json::object(); }, "type");
  damaged([](Json& j) { j["pre_tokenizer"] = {{"type", "Sequence"}}; }, "pretokenizers");
}

TEST(TokenizerFile, AddedTokensHaveTextOfSensibleLength) {
  for (const std::string& content : {std::string(), std::string(2000, 'x')}) {
    Json json = parsed("gpt2");
    json["added_tokens"].push_back({{"id", 3000}, {"content", content}});
    error_of(ErrorCode::bad_file, [&] { load(json); });
  }
}

TEST(TokenizerFile, TemplatesNameTokensThatExist) {
  expect_error(
      ErrorCode::bad_file, "llama2", [](Json& j) { j["post_processor"]["special_tokens"].erase("<s>"); }, "<s>");
  expect_error(
      ErrorCode::bad_file, "llama2", [](Json& j) { j["post_processor"]["special_tokens"]["<s>"]["ids"] = {99999}; },
      "99999");
  expect_error(
      ErrorCode::bad_file, "llama2", [](Json& j) { j["post_processor"]["special_tokens"]["<s>"]["ids"] = {-1}; },
      "ids");
  expect_error(
      ErrorCode::bad_file, "llama2", [](Json& j) { j["post_processor"]["single"] = Json::array(); }, "Sequence");
}

TEST(TokenizerFile, WhatIsNotSupportedIsNamed) {
  const auto refused = [](const std::string& name, const std::function<void(Json&)>& change, const std::string& named) {
    expect_error(ErrorCode::unsupported, name, change, named);
  };
  refused(
      "gpt2", [](Json& j) { j["model"]["type"] = "Unigram"; }, "'Unigram'");
  refused(
      "gpt2", [](Json& j) { j["model"]["type"] = "WordPiece"; }, "'WordPiece'");
  refused(
      "gpt2", [](Json& j) { j["model"]["dropout"] = 0.1; }, "dropout");
  refused(
      "gpt2", [](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }, "end_of_word_suffix");
  refused(
      "gpt2", [](Json& j) { j["model"]["continuing_subword_prefix"] = "##"; }, "continuing_subword_prefix");
  refused(
      "gpt2", [](Json& j) { j["added_tokens"][0]["single_word"] = true; }, "single_word");
  refused(
      "gpt2",
      [](Json& j) {
        j["normalizer"] = {{"type", "Lowercase"}};
      },
      "'Lowercase'");
  refused(
      "gpt2",
      [](Json& j) {
        j["normalizer"] = {{"type", "NFKC"}};
      },
      "'NFKC'");
  refused(
      "gpt2",
      [](Json& j) {
        j["pre_tokenizer"] = {{"type", "Whitespace"}};
      },
      "'Whitespace'");
  refused(
      "gpt2", [](Json& j) { j["decoder"] = nullptr; }, "decoder");
  refused(
      "gpt2",
      [](Json& j) {
        j["decoder"] = {{"type", "WordPiece"}};
      },
      "'WordPiece'");
  refused(
      "gpt2",
      [](Json& j) {
        j["post_processor"] = {{"type", "RobertaProcessing"}};
      },
      "'RobertaProcessing'");
  refused(
      "llama2", [](Json& j) { j["decoder"]["decoders"][3]["start"] = 2; }, "Strip");
  refused(
      "metaspace_first", [](Json& j) { j["pre_tokenizer"]["replacement"] = "_"; }, "'_'");
  refused(
      "metaspace_first", [](Json& j) { j["pre_tokenizer"]["prepend_scheme"] = "last"; }, "'last'");
  refused(
      "llama3", [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Removed"; }, "'Removed'");
  refused(
      "llama3", [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["invert"] = true; }, "invert");
  const std::string pattern = R"(\p{L}+|\p{N}{1,2})";
  refused(
      "llama3", [&](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pattern; }, "{1,2}");
}

TEST(TokenizerFile, NotJsonIsDamage) {
  for (const char* text : {"", "{", "[]", "null", "\xFF", "{\"model\": {}}", "{\"model\":{},\"model\":{}}"}) {
    error_of(ErrorCode::bad_file, [&] { tokenizer_from_json(text, "", "", "t"); });
  }
  error_of(ErrorCode::bad_file, [] { tokenizer_from_json(std::string(100000, '['), "", "", "t"); });
}

// No damage to a file, wherever it is, does anything worse than an Error.
TEST(TokenizerFile, RandomDamageIsNeverWorseThanAnError) {
  std::mt19937 random(5);
  for (const char* name : {"gpt2", "llama3", "qwen2", "llama2", "metaspace_always", "added_flags"}) {
    const std::string text = tokenizer_text(name);
    const size_t vocabulary = text.find("\"vocab\"");
    for (int round = 0; round < 60; ++round) {
      std::string damaged = text;
      // One half of the damage goes where the structure is.
      const size_t span = round % 2 == 0 ? text.size() : vocabulary;
      for (int change = 0; change < 3; ++change) {
        const size_t at = random() % span;
        if (random() % 2 == 0)
          damaged.erase(at, 1 + random() % 8);
        else
          damaged[at] = static_cast<char>(random());
      }
      try {
        const std::unique_ptr<Tokenizer> tokenizer = tokenizer_from_json(damaged, "", "", name);
        tokenizer->decode(tokenizer->encode("Hello, <mask> world\xFF 123 <|im_start|>", {}));
      } catch (const Error&) {  // as it should
      }
    }
  }
}

class Directory : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void write(const std::string& file, const std::string& text) { write_file_atomically(folder_ / file, text); }

  std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(Directory, BosAndEosComeFromTheConfiguration) {
  write("tokenizer.json", tokenizer_text("llama2"));
  EXPECT_EQ(tokenizer_from_huggingface(folder_)->eos(), -1);
  write("tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}})");
  const std::unique_ptr<Tokenizer> tokenizer = tokenizer_from_huggingface(folder_);
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
  write("tokenizer_config.json", R"({"bos_token": null, "eos_token": "absent"})");
  EXPECT_THAT(error_of(ErrorCode::bad_file, [&] { tokenizer_from_huggingface(folder_); }), HasSubstr("'absent'"));
}

TEST_F(Directory, AMissingFileIsNotFound) {
  error_of(ErrorCode::not_found, [&] { tokenizer_from_huggingface(folder_); });
}

// Changes one key of a golden GGUF vocabulary.
GgufMetadata changed(const std::string& name, const std::string& key, const std::optional<GgufValue>& value) {
  const GgufMetadata whole = gguf_of(tokenizer_golden("expected_gguf.json").at("tokenizers").at(name));
  GgufMetadata result("test.gguf");
  for (const auto& [each, old] : whole.values()) {
    if (each != key) result.add(each, old);
  }
  if (value) result.add(key, *value);
  return result;
}

void expect_gguf_error(ErrorCode code, const GgufMetadata& metadata, const std::string& named) {
  const std::string message = error_of(code, [&] { tokenizer_from_gguf(metadata); });
  EXPECT_THAT(message, HasSubstr(named));
  EXPECT_THAT(message, HasSubstr("test.gguf"));
}

TEST(GgufTokenizer, AnUnknownPreTokenizerIsNamed) {
  const std::string pre = "tokenizer.ggml.pre";
  expect_gguf_error(ErrorCode::unsupported, changed("gpt-2", pre, "made-up"), "'made-up'");
  expect_gguf_error(ErrorCode::unsupported, changed("gpt-2", pre, ""), "''");
  expect_gguf_error(ErrorCode::unsupported, changed("gpt-2", pre, std::nullopt), "tokenizer.ggml.pre");
  expect_gguf_error(ErrorCode::unsupported, changed("gpt-2", "tokenizer.ggml.model", "t5"), "'t5'");
}

TEST(GgufTokenizer, DamageIsNamed) {
  const auto damaged = [](const std::string& name, const std::string& key, const std::optional<GgufValue>& value,
                          const std::string& named) {
    expect_gguf_error(ErrorCode::bad_file, changed(name, "tokenizer.ggml." + key, value), named);
  };
  using Texts = std::vector<std::string>;
  damaged("gpt-2", "model", std::nullopt, "tokenizer.ggml.model");
  damaged("gpt-2", "tokens", std::nullopt, "tokenizer.ggml.tokens");
  damaged("gpt-2", "tokens", Texts{}, "tokens");
  damaged("gpt-2", "tokens", Texts{"a", "a"}, "token_type");
  damaged("gpt-2", "token_type", std::vector<int64_t>{1, 2}, "token_type");
  damaged("gpt-2", "token_type", std::vector<int64_t>(640, 9), "type 9");
  damaged("gpt-2", "token_type", std::vector<int64_t>(640, 6), "byte token");
  damaged("gpt-2", "merges", std::nullopt, "tokenizer.ggml.merges");
  damaged("gpt-2", "merges", Texts{"a"}, "'a'");
  damaged("gpt-2", "merges", Texts{"a absent"}, "'absent'");
  damaged("gpt-2", "bos_token_id", int64_t{640}, "640");
  damaged("gpt-2", "eos_token_id", int64_t{-1}, "-1");
  damaged("llama", "scores", std::nullopt, "scores");
  damaged("llama", "scores", std::vector<double>{1}, "scores");
  damaged("llama", "bos_token_id", std::nullopt, "bos_token_id");
  std::vector<double> scores(900, 0.0);
  scores[5] = std::numeric_limits<double>::quiet_NaN();
  damaged("llama", "scores", scores, "finite");
}

TEST(GgufTokenizer, FlagsOfTheFileCount) {
  const auto surrounded = [](const std::string& name, const std::string& key, bool value) {
    return tokenizer_from_gguf(changed(name, "tokenizer.ggml." + key, value))->encode("", {.add_special = true});
  };
  EXPECT_THAT(surrounded("llama", "add_bos_token", false), testing::IsEmpty());
  EXPECT_THAT(surrounded("llama", "add_eos_token", true), testing::ElementsAre(1, 2));
  EXPECT_THAT(surrounded("gpt-2", "add_bos_token", true), testing::ElementsAre(1));
  EXPECT_THAT(surrounded("llama-bpe", "add_bos_token", false), testing::IsEmpty());
  const auto bare = tokenizer_from_gguf(changed("llama", "tokenizer.ggml.add_space_prefix", false));
  const std::vector<int32_t> tokens = bare->encode("the fox", {.add_special = false});
  EXPECT_EQ(bare->decode(tokens), "the fox");
  EXPECT_EQ(bare->token_bytes(tokens[0])[0], 't');
  EXPECT_FALSE(bare->strips_first_space());
}

// A character that occurs only within tokens takes part in merging, and falls back to bytes when left over.
TEST(GgufTokenizer, CharactersWithoutATokenMergeAllTheSame) {
  GgufMetadata metadata("test.gguf");
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>", "n", "n\xC3\xA9", "<0xC3>", "<0xA9>"};
  metadata.add("tokenizer.ggml.model", "llama");
  metadata.add("tokenizer.ggml.tokens", tokens);
  metadata.add("tokenizer.ggml.token_type", std::vector<int64_t>{2, 3, 3, 1, 1, 6, 6});
  metadata.add("tokenizer.ggml.scores", std::vector<double>{0, 0, 0, -1, -2, 0, 0});
  metadata.add("tokenizer.ggml.bos_token_id", int64_t{1});
  metadata.add("tokenizer.ggml.unknown_token_id", int64_t{0});
  metadata.add("tokenizer.ggml.add_space_prefix", false);
  const std::unique_ptr<Tokenizer> tokenizer = tokenizer_from_gguf(metadata);
  const EncodeOptions plain = {.add_special = false};
  EXPECT_THAT(tokenizer->encode("n\xC3\xA9n", plain), testing::ElementsAre(4, 3));
  EXPECT_THAT(tokenizer->encode("\xC3\xA9n", plain), testing::ElementsAre(5, 6, 3));
  EXPECT_THAT(tokenizer->encode("nz", plain), testing::ElementsAre(3, 0));
  EXPECT_THAT(tokenizer->encode("\xC3", plain), testing::ElementsAre(5));
  EXPECT_THAT(tokenizer->encode("<s>", plain), testing::ElementsAre(0, 0, 0));
  EXPECT_THAT(tokenizer->encode("<s>", {.add_special = true, .parse_special = true}), testing::ElementsAre(1, 1));
}

}  // namespace
}  // namespace tessera::model
