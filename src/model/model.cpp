#include "tessera/model/model.h"

#include "model/json_fields.h"
#include "model/optional_file.h"
#include "model/tokenizer_factory.h"
#include "model/transformer.h"

namespace tessera::model {
namespace {

// The Jinja text: a file of its own, or a string in tokenizer_config.json, or there the one named "default" of a list.
std::string read_chat_template(const std::filesystem::path& directory) {
  const std::filesystem::path own_file = directory / "chat_template.jinja";
  if (file_exists(own_file)) return read_file(own_file);
  const std::filesystem::path path = directory / "tokenizer_config.json";
  if (!file_exists(path)) return {};
  const std::string name = path.string();
  const nlohmann::json json = parse_strict_json(read_file(path), name);
  const JsonFields fields(json, name);
  const nlohmann::json* value = fields.find("chat_template");
  if (value == nullptr) return {};
  if (!value->is_array()) return *fields.find_string("chat_template");
  for (const nlohmann::json& item : *value) {
    const JsonFields entry(item, name);
    if (entry.find_string("name") == "default") return entry.find_string("template").value_or("");
  }
  return {};
}

std::string read_chat_template(const GgufMetadata& metadata) {
  const std::string* jinja = metadata.find_string("tokenizer.chat_template");
  return jinja == nullptr ? std::string() : *jinja;
}

}  // namespace

struct Model::State {
  Transformer transformer;
  std::unique_ptr<Tokenizer> tokenizer;
  ChatTemplate chat_template;
};

Model::Model(std::unique_ptr<State> state) : state_(std::move(state)) {}
Model::~Model() = default;

std::shared_ptr<const Model> Model::load(const std::filesystem::path& path) {
  std::unique_ptr<State> state;
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    state = std::make_unique<State>(State{Transformer::from_huggingface(path), tokenizer_from_huggingface(path),
                                          ChatTemplate::recognise(read_chat_template(path))});
  } else if (!file_exists(path)) {
    throw Error(ErrorCode::not_found, "{}: expected a Hugging Face model directory or a .gguf file, found nothing",
                path.string());
  } else if (path.extension() == ".gguf") {
    const GgufFile file = GgufFile::open(path);
    state = std::make_unique<State>(State{Transformer::from_gguf(file), tokenizer_from_gguf(file.metadata()),
                                          ChatTemplate::recognise(read_chat_template(file.metadata()))});
  } else {
    throw Error(ErrorCode::unsupported,
                "{}: expected a .gguf file or a Hugging Face model directory (give the directory, not a file in it)",
                path.string());
  }
  return std::shared_ptr<const Model>(new Model(std::move(state)));
}

const ModelConfig& Model::config() const { return state_->transformer.config(); }
const Tokenizer& Model::tokenizer() const { return *state_->tokenizer; }
const ChatTemplate& Model::chat_template() const { return state_->chat_template; }
std::string Model::digest() const { return state_->transformer.weights().digest; }
int64_t Model::weight_bytes() const { return state_->transformer.weights().bytes; }

Tensor Model::forward(std::span<const int32_t> tokens, int64_t first_position, LayerAttention& attention,
                      const ForwardOptions& options) const {
  return state_->transformer.forward(tokens, first_position, attention, options);
}

int64_t Model::workspace_bytes(int64_t tokens) const { return state_->transformer.workspace_bytes(tokens); }

}  // namespace tessera::model
