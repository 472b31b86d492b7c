// Small classifiers to be used as experts, behind an interface that an external classifier can also fill.
//
//   const auto learner = make_learner({.kind = "mlp", .hidden = 64});
//   const std::unique_ptr<Classifier> expert = learner->fit(restrict_to(train, design.sets[0]), seed);
//   expert->predict(rows, probabilities);
//
// A learner sees only the rows it is given; features are standardised by their own mean and deviation, so nothing about
// other classes leaks in. Networks run on oneDNN, one thread each, Adam (Kingma, Ba 2015) on the cross-entropy with a
// learning rate that falls linearly to 0. The same seed on the same processor gives the same bits.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

#include "tessera/experts/dataset.h"

namespace tessera::experts {

// A trained classifier of a fixed number of features and classes.
class Classifier {
 public:
  virtual ~Classifier() = default;
  virtual int64_t features() const = 0;
  virtual int classes() const = 0;

  // rows: [count, features()]; probabilities: [count, classes()], each row sums to 1. evidence: [count] or empty: log
  // of the sum of exponentials of the outputs, large where an input looks like the training classes. Safe to call from
  // several threads.
  virtual void predict(std::span<const float> rows, std::span<float> probabilities,
                       std::span<float> evidence) const = 0;

  // Bytes that Learner::load reads back.
  virtual std::string save() const = 0;
};

class Learner {
 public:
  virtual ~Learner() = default;

  // Throws Error(invalid_argument) when rows of this shape are nothing to learn from; called before any training.
  virtual void check(const Dataset& data) const = 0;

  // Throws as check, and Error(invalid_argument) naming the first class without a training row.
  virtual std::unique_ptr<Classifier> fit(const Dataset& data, uint64_t seed) const = 0;

  // Throws Error(bad_file) when `bytes` is not what save() wrote; `name` stands for them in the message.
  virtual std::unique_ptr<Classifier> load(std::string_view bytes, std::string_view name) const = 0;

  // What fit depends on, so that a resumed run notices other settings.
  virtual nlohmann::json settings() const = 0;
};

struct LearnerOptions {
  std::string kind = "mlp";  // softmax, mlp (one hidden ReLU layer), cnn (two 3x3 convolutions with pooling, then mlp)
  int hidden = 128;          // units of the hidden layer, 1..65536
  int epochs = 30;           // passes over the rows, 1..100000
  int batch = 64;            // rows per step, 1..65536
  double learning_rate = 0.004;  // of Adam at the start; this, hidden and epochs: chosen on Letter, development seeds
  double weight_decay = 0;       // L2 pull per step relative to the learning rate (Loshchilov, Hutter 2019)
  int channels = 16;             // of the first convolution; the second has twice as many
  int shift = 0;        // images: each training row is moved by up to this many pixels in both directions, 0..16
  bool mirror = false;  // images: each training row is mirrored left to right every other time
};

// Throws Error(invalid_argument) for an unknown kind or an option out of range.
std::unique_ptr<Learner> make_learner(const LearnerOptions& options);

// The learner whose settings() are `settings`. Throws Error(bad_file) naming the fault; `name` stands for the settings
// in the message.
std::unique_ptr<Learner> learner_from(const nlohmann::json& settings, std::string_view name);

}  // namespace tessera::experts
