#include "tessera/experts/learner.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "experts/network.h"
#include "tessera/base/error.h"
#include "tessera/base/interrupt.h"
#include "tessera/base/random.h"

namespace tessera::experts {
namespace {

constexpr int64_t kPredictBatch = 256;
constexpr std::string_view kMagic =
    "TSEXPRT1";  // then the fields of Header, means, deviations, parameters (little endian)

// Softmax of one row in place; returns the log of the sum of exponentials.
float softmax(std::span<float> row) {
  const float top = *std::max_element(row.begin(), row.end());
  float sum = 0;
  for (float& value : row) sum += value = std::exp(value - top);
  for (float& value : row) value /= sum;
  return top + std::log(sum);
}

struct Header {
  int32_t features, classes, hidden, channels, image_channels, height, width;
};

class NetworkClassifier : public Classifier {
 public:
  NetworkShape shape;
  std::vector<float> mean, scale;  // [features]: a row becomes (x - mean) * scale
  std::vector<float> parameters;

  int64_t features() const override { return shape.features; }
  int classes() const override { return shape.classes; }

  void predict(std::span<const float> rows, std::span<float> probabilities, std::span<float> evidence) const override {
    const auto width = static_cast<size_t>(shape.features), outputs = static_cast<size_t>(shape.classes);
    const size_t count = rows.size() / width;
    Network network(shape, kPredictBatch, Network::Use::predict);
    std::vector<float> inputs(static_cast<size_t>(kPredictBatch) * width, 0.0F);
    std::vector<float> logits(static_cast<size_t>(kPredictBatch) * outputs);
    for (size_t begin = 0; begin < count; begin += static_cast<size_t>(kPredictBatch)) {
      const size_t size = std::min(static_cast<size_t>(kPredictBatch), count - begin);
      for (size_t i = 0; i < size; ++i) standardise(rows.data() + (begin + i) * width, inputs.data() + i * width);
      network.forward(parameters, inputs, logits);
      for (size_t i = 0; i < size; ++i) {
        const std::span<float> row(logits.data() + i * outputs, outputs);
        const float energy = softmax(row);
        if (!evidence.empty()) evidence[begin + i] = energy;
        std::copy(row.begin(), row.end(), probabilities.begin() + static_cast<std::ptrdiff_t>((begin + i) * outputs));
      }
    }
  }

  void standardise(const float* from, float* to) const {
    for (size_t j = 0; j < mean.size(); ++j) to[j] = (from[j] - mean[j]) * scale[j];
  }

  std::string save() const override {
    const Header header{static_cast<int32_t>(shape.features),
                        shape.classes,
                        shape.hidden,
                        shape.channels,
                        shape.image_channels,
                        shape.height,
                        shape.width};
    std::string bytes(kMagic);
    bytes.append(reinterpret_cast<const char*>(&header), sizeof(header));
    for (const auto* part : {&mean, &scale, &parameters}) {
      bytes.append(reinterpret_cast<const char*>(part->data()), part->size() * sizeof(float));
    }
    return bytes;
  }
};

class NetworkLearner : public Learner {
 public:
  explicit NetworkLearner(const LearnerOptions& options) : options_(options) {}

  void check(const Dataset& data) const override {
    if ((options_.shift > 0 || options_.mirror) && data.channels < 1) {
      throw Error(ErrorCode::invalid_argument, "shift and mirror: expected images, found {} features without a shape",
                  data.features);
    }
    if (options_.kind == "cnn" && (data.channels < 1 || data.height < 4 || data.width < 4)) {
      throw Error(ErrorCode::invalid_argument,
                  "cnn: expected images of at least 4 x 4, found {} features without a shape", data.features);
    }
  }

  std::unique_ptr<Classifier> fit(const Dataset& data, uint64_t seed) const override {
    check(data);
    check_classes(data);
    auto result = std::make_unique<NetworkClassifier>();
    result->shape = shape_for(data);
    measure(data, *result);
    Random random(seed);
    initialise(*result, random);
    train(data, *result, random);
    return result;
  }

  std::unique_ptr<Classifier> load(std::string_view bytes, std::string_view name) const override {
    Header header;
    if (!bytes.starts_with(kMagic) || bytes.size() < kMagic.size() + sizeof(header)) {
      throw Error(ErrorCode::bad_file, "{}: expected an expert that fit wrote, found another format", name);
    }
    std::memcpy(&header, bytes.data() + kMagic.size(), sizeof(header));
    const auto sane = [](int32_t value, int32_t least) { return value >= least && value <= 1 << 24; };
    auto result = std::make_unique<NetworkClassifier>();
    NetworkShape& shape = result->shape;
    shape = {header.features,       header.classes, header.hidden, header.channels,
             header.image_channels, header.height,  header.width};
    const bool good =
        sane(header.features, 1) && sane(header.classes, 1) && header.classes <= 1 << 20 && sane(header.hidden, 0) &&
        header.hidden <= 65536 && header.channels >= 0 && header.channels <= 4096 && sane(header.height, 0) &&
        sane(header.width, 0) && header.image_channels >= 0 && header.image_channels <= 4096 &&
        (header.channels == 0 || (header.height >= 4 && header.width >= 4 && header.image_channels >= 1 &&
                                  int64_t{header.height} * header.width <= header.features &&
                                  int64_t{header.image_channels} * header.height * header.width == header.features));
    const size_t start = kMagic.size() + sizeof(header);
    const auto features = static_cast<size_t>(good ? header.features : 0);
    const auto parameters = static_cast<size_t>(good ? shape.parameters() : 0);
    if (!good || bytes.size() - start != (2 * features + parameters) * sizeof(float)) {
      throw Error(ErrorCode::bad_file, "{}: the expert is damaged or cut off; remove the file and run fit again", name);
    }
    result->mean.resize(features);
    result->scale.resize(features);
    result->parameters.resize(parameters);
    size_t at = start;
    for (auto* part : {&result->mean, &result->scale, &result->parameters}) {
      std::memcpy(part->data(), bytes.data() + at, part->size() * sizeof(float));
      at += part->size() * sizeof(float);
    }
    return result;
  }

  nlohmann::json settings() const override {
    nlohmann::json result = {{"kind", options_.kind},
                             {"hidden", options_.hidden},
                             {"epochs", options_.epochs},
                             {"batch", options_.batch},
                             {"learning_rate", options_.learning_rate},
                             {"weight_decay", options_.weight_decay},
                             {"channels", options_.channels}};
    if (options_.shift > 0) result["shift"] = options_.shift;
    if (options_.mirror) result["mirror"] = true;
    return result;
  }

 private:
  void check_classes(const Dataset& data) const {
    std::vector<bool> seen(data.classes.size(), false);
    for (const int32_t label : data.labels) seen[static_cast<size_t>(label)] = true;
    const auto missing = std::find(seen.begin(), seen.end(), false);
    if (missing != seen.end()) {
      throw Error(ErrorCode::invalid_argument, "the training data has no row of class '{}', which an expert must know",
                  data.classes[static_cast<size_t>(missing - seen.begin())]);
    }
  }

  NetworkShape shape_for(const Dataset& data) const {
    NetworkShape shape{.features = data.features, .classes = static_cast<int>(data.classes.size())};
    if (options_.kind != "softmax") shape.hidden = options_.hidden;
    if (options_.kind == "cnn") {
      shape.channels = options_.channels;
      shape.image_channels = data.channels, shape.height = data.height, shape.width = data.width;
    }
    return shape;
  }

  // Images share one mean and deviation, so that dark pixels keep their meaning.
  static void measure(const Dataset& data, NetworkClassifier& model) {
    const auto width = static_cast<size_t>(data.features);
    std::vector<double> sum(width, 0), square(width, 0);
    for (size_t k = 0; k < data.values.size(); ++k) sum[k % width] += static_cast<double>(data.values[k]);
    for (double& value : sum) value /= static_cast<double>(data.rows);
    if (data.channels > 0) {
      double mean = 0;
      for (const double value : sum) mean += value / static_cast<double>(width);
      std::fill(sum.begin(), sum.end(), mean);
    }
    for (size_t k = 0; k < data.values.size(); ++k) {
      const double gap = static_cast<double>(data.values[k]) - sum[k % width];
      square[k % width] += gap * gap / static_cast<double>(data.rows);
    }
    if (data.channels > 0) {
      double variance = 0;
      for (const double value : square) variance += value / static_cast<double>(width);
      std::fill(square.begin(), square.end(), variance);
    }
    for (size_t j = 0; j < width; ++j) {
      model.mean.push_back(static_cast<float>(sum[j]));
      model.scale.push_back(square[j] > 1e-12 ? static_cast<float>(1 / std::sqrt(square[j])) : 0.0F);
    }
  }

  // Uniform with the variance of He et al. 2015; the last layer's is halved.
  static void initialise(NetworkClassifier& model, Random& random) {
    const auto groups = model.shape.groups();
    for (size_t k = 0; k < groups.size(); ++k) {
      const double bound = std::sqrt((k + 1 == groups.size() ? 3.0 : 6.0) / static_cast<double>(groups[k].fan_in));
      for (int64_t w = 0; w < groups[k].weights; ++w) {
        model.parameters.push_back(static_cast<float>((2 * random.uniform() - 1) * bound));
      }
      model.parameters.insert(model.parameters.end(), static_cast<size_t>(groups[k].biases), 0.0F);
    }
  }

  // The image `from` moved and mirrored at random; what comes in from outside is dark (0).
  void vary(const Dataset& data, const float* from, std::vector<float>& to, Random& random) const {
    const int span = 2 * options_.shift + 1;
    const int down = static_cast<int>(random.below(span)) - options_.shift;
    const int right = static_cast<int>(random.below(span)) - options_.shift;
    const bool turned = options_.mirror && random.below(2) == 1;
    const int height = data.height, width = data.width;
    size_t at = 0;
    for (int c = 0; c < data.channels; ++c) {
      const float* plane = from + static_cast<std::ptrdiff_t>(c) * height * width;
      for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
          const int row = y - down, column = (turned ? width - 1 - x : x) - right;
          const bool inside = row >= 0 && row < height && column >= 0 && column < width;
          to[at++] = inside ? plane[row * width + column] : 0.0F;
        }
      }
    }
  }

  void train(const Dataset& data, NetworkClassifier& model, Random& random) const {
    const auto width = static_cast<size_t>(data.features), outputs = data.classes.size();
    const auto batch = static_cast<size_t>(std::min<int64_t>(options_.batch, data.rows));
    Network network(model.shape, static_cast<int64_t>(batch), Network::Use::train);
    std::vector<float> varied(width);
    std::vector<float> rows(batch * width), logits(batch * outputs), gradient(model.parameters.size());
    std::vector<float> first(model.parameters.size(), 0), second(model.parameters.size(), 0);
    std::vector<int64_t> order(static_cast<size_t>(data.rows));
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
    const int64_t steps = (data.rows * options_.epochs + static_cast<int64_t>(batch) - 1) / static_cast<int64_t>(batch);
    size_t at = order.size();
    for (int64_t step = 0; step < steps; ++step) {
      throw_if_interrupted();
      std::vector<int32_t> labels(batch);
      for (size_t b = 0; b < batch; ++b) {
        if (at == order.size()) random.shuffle(order), at = 0;
        const auto row = static_cast<size_t>(order[at++]);
        const float* source = data.values.data() + row * width;
        if (options_.shift > 0 || options_.mirror) {
          vary(data, source, varied, random);
          source = varied.data();
        }
        model.standardise(source, rows.data() + b * width);
        labels[b] = data.labels[row];
      }
      network.forward(model.parameters, rows, logits);
      for (size_t b = 0; b < batch; ++b) {
        const std::span<float> row(logits.data() + b * outputs, outputs);
        softmax(row);
        row[static_cast<size_t>(labels[b])] -= 1;
        for (float& value : row) value /= static_cast<float>(batch);
      }
      network.backward(logits, gradient);
      const double rate = options_.learning_rate * (1 - static_cast<double>(step) / static_cast<double>(steps));
      adam(model.parameters, gradient, first, second, rate, step + 1);
    }
  }

  void adam(std::vector<float>& parameters, const std::vector<float>& gradient, std::vector<float>& first,
            std::vector<float>& second, double rate, int64_t step) const {
    const double steps = static_cast<double>(step);
    const auto size = static_cast<float>(rate / (1 - std::pow(0.9, steps)));
    const auto correction = static_cast<float>(1 / (1 - std::pow(0.999, steps)));
    const auto keep = static_cast<float>(1 - rate * options_.weight_decay);
    float *p = parameters.data(), *m = first.data(), *v = second.data();
    const float* g = gradient.data();
    for (size_t k = 0; k < parameters.size(); ++k) {
      m[k] = 0.9F * m[k] + 0.1F * g[k];
      v[k] = 0.999F * v[k] + 0.001F * g[k] * g[k];
      p[k] = keep * p[k] - size * m[k] / (std::sqrt(v[k] * correction) + 1e-8F);
    }
  }

  LearnerOptions options_;
};

}  // namespace

std::unique_ptr<Learner> make_learner(const LearnerOptions& options) {
  if (options.kind != "softmax" && options.kind != "mlp" && options.kind != "cnn") {
    throw Error(ErrorCode::invalid_argument, "unknown learner '{}'; expected softmax, mlp or cnn", options.kind);
  }
  const auto in_range = [](int64_t value, int64_t high, const char* name) {
    if (value < 1 || value > high) {
      throw Error(ErrorCode::invalid_argument, "{}: expected 1 to {}, found {}", name, high, value);
    }
  };
  in_range(options.hidden, 65536, "hidden");
  in_range(options.epochs, 100000, "epochs");
  in_range(options.batch, 65536, "batch");
  in_range(options.channels, 1024, "channels");
  if (options.shift < 0 || options.shift > 16) {
    throw Error(ErrorCode::invalid_argument, "shift: expected 0 to 16 pixels, found {}", options.shift);
  }
  if (!(options.learning_rate > 0 && options.learning_rate < 10) ||
      !(options.weight_decay >= 0 && options.weight_decay < 10)) {
    throw Error(ErrorCode::invalid_argument,
                "expected a learning rate in (0, 10) and a weight decay in [0, 10), found {} and {}",
                options.learning_rate, options.weight_decay);
  }
  return std::make_unique<NetworkLearner>(options);
}

std::unique_ptr<Learner> learner_from(const nlohmann::json& settings, std::string_view name) {
  try {
    LearnerOptions options;
    options.kind = settings.at("kind").get<std::string>();
    options.hidden = settings.at("hidden").get<int>();
    options.epochs = settings.at("epochs").get<int>();
    options.batch = settings.at("batch").get<int>();
    options.learning_rate = settings.at("learning_rate").get<double>();
    options.weight_decay = settings.at("weight_decay").get<double>();
    options.channels = settings.at("channels").get<int>();
    options.shift = settings.value("shift", 0);
    options.mirror = settings.value("mirror", false);
    return make_learner(options);
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorCode::bad_file, "{}: expected the settings of a learner; {}", name, error.what());
  }
}

}  // namespace tessera::experts
