// A small feed-forward network on oneDNN with a fixed batch size. Parameters are one flat array in plain layouts,
// shared by networks of different batch sizes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace tessera::experts {

struct NetworkShape {
  int64_t features = 0;
  int classes = 0;
  int hidden = 0;                                 // 0: no hidden layer
  int channels = 0;                               // 0: no convolutions
  int image_channels = 0, height = 0, width = 0;  // of the input, with convolutions

  // Sizes of the parameter groups in order: weights, biases per layer; fan_in of each layer beside.
  struct Group {
    int64_t weights = 0, biases = 0, fan_in = 0;
  };
  std::vector<Group> groups() const;
  int64_t parameters() const;
};

class Network {
 public:
  enum class Use { predict, train };
  Network(const NetworkShape& shape, int64_t batch, Use use);
  ~Network();

  // rows: [batch, features] -> logits: [batch, classes].
  void forward(std::span<const float> parameters, std::span<const float> rows, std::span<float> logits);
  // After forward: gradient of the loss by the logits -> by the parameters.
  void backward(std::span<const float> logit_gradient, std::span<float> gradient);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tessera::experts
