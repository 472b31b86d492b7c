#include "experts/network.h"

#include <omp.h>

#include <cstring>
#include <dnnl.hpp>
#include <optional>

namespace tessera::experts {
namespace {

using dnnl::memory;
using dnnl::prop_kind;
using Tag = memory::format_tag;
constexpr auto kFloat = memory::data_type::f32;

dnnl::engine& engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

// Runs one primitive, with reorders where a buffer's layout is not the one the primitive wants.
class Layer {
 public:
  virtual ~Layer() = default;
  virtual void forward(dnnl::stream& stream, const float* parameters) = 0;
  // diff_output -> diff_input (when wanted) and gradient.
  virtual void backward(dnnl::stream& stream, float* gradient) = 0;

  memory input, output, diff_input, diff_output;
};

memory as(dnnl::stream& stream, memory& from, memory& scratch, const memory::desc& wanted) {
  if (from.get_desc() == wanted) return from;
  if (!scratch || scratch.get_desc() != wanted) scratch = memory(wanted, engine());
  dnnl::reorder(from, scratch).execute(stream, from, scratch);
  return scratch;
}

// Convolution 3x3 (pad 1) or fully connected, with an optional ReLU.
template <typename Forward, typename BackwardData, typename BackwardWeights>
class Linear : public Layer {
 public:
  struct Descriptors {
    memory::desc weights_plain, weights_any, bias, input, output_any;
  };

  template <typename MakeForward, typename MakeData, typename MakeWeights>
  Linear(memory from, const Descriptors& d, bool relu, Network::Use use, bool wants_diff_input,
         MakeForward make_forward, MakeData make_data, MakeWeights make_weights)
      : relu_(relu) {
    input = from;
    dnnl::primitive_attr attributes;
    if (relu) {
      dnnl::post_ops operations;
      operations.append_eltwise(1.0F, dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
      attributes.set_post_ops(operations);
    }
    forward_pd_.emplace(make_forward(d), attributes, engine());
    forward_ = Forward(*forward_pd_);
    output = memory(forward_pd_->dst_desc(), engine());
    weights_ = memory(d.weights_plain, engine());
    bias_ = memory(d.bias, engine());
    if (use == Network::Use::predict) return;
    diff_output = memory(forward_pd_->dst_desc(), engine());
    diff_weights_ = memory(d.weights_plain, engine());
    diff_bias_ = memory(d.bias, engine());
    const typename Forward::primitive_desc hint(make_forward(d), engine());
    weights_pd_.emplace(make_weights(d), engine(), hint);
    backward_weights_ = BackwardWeights(*weights_pd_);
    if (relu) {
      const dnnl::eltwise_forward::desc eltwise(prop_kind::forward_training,
                                                dnnl::algorithm::eltwise_relu_use_dst_for_bwd, output.get_desc(), 0.0F);
      const dnnl::eltwise_forward::primitive_desc eltwise_pd(eltwise, engine());
      const dnnl::eltwise_backward::desc backward(dnnl::algorithm::eltwise_relu_use_dst_for_bwd, output.get_desc(),
                                                  output.get_desc(), 0.0F);
      relu_backward_ = dnnl::eltwise_backward({backward, engine(), eltwise_pd});
    }
    if (wants_diff_input) {
      data_pd_.emplace(make_data(d), engine(), hint);
      backward_data_ = BackwardData(*data_pd_);
      diff_input = memory(data_pd_->diff_src_desc(), engine());
    }
  }

  void forward(dnnl::stream& stream, const float* parameters) override {
    const size_t bytes = weights_.get_desc().get_size();
    std::memcpy(weights_.get_data_handle(), parameters, bytes);
    std::memcpy(bias_.get_data_handle(), parameters + bytes / sizeof(float), bias_.get_desc().get_size());
    forward_.execute(stream, {{DNNL_ARG_SRC, as(stream, input, input_scratch_, forward_pd_->src_desc())},
                              {DNNL_ARG_WEIGHTS, as(stream, weights_, weights_scratch_, forward_pd_->weights_desc())},
                              {DNNL_ARG_BIAS, bias_},
                              {DNNL_ARG_DST, output}});
  }

  void backward(dnnl::stream& stream, float* gradient) override {
    if (relu_) {
      relu_backward_.execute(
          stream, {{DNNL_ARG_DST, output}, {DNNL_ARG_DIFF_DST, diff_output}, {DNNL_ARG_DIFF_SRC, diff_output}});
    }
    memory diff_weights = diff_weights_;
    if (weights_pd_->diff_weights_desc() != diff_weights_.get_desc()) {
      if (!diff_weights_scratch_) diff_weights_scratch_ = memory(weights_pd_->diff_weights_desc(), engine());
      diff_weights = diff_weights_scratch_;
    }
    backward_weights_.execute(
        stream, {{DNNL_ARG_SRC, as(stream, input, input_scratch_2_, weights_pd_->src_desc())},
                 {DNNL_ARG_DIFF_DST, as(stream, diff_output, diff_output_scratch_, weights_pd_->diff_dst_desc())},
                 {DNNL_ARG_DIFF_WEIGHTS, diff_weights},
                 {DNNL_ARG_DIFF_BIAS, diff_bias_}});
    as(stream, diff_weights, diff_weights_, diff_weights_.get_desc());
    if (data_pd_) {
      backward_data_.execute(
          stream, {{DNNL_ARG_DIFF_DST, as(stream, diff_output, diff_output_scratch_2_, data_pd_->diff_dst_desc())},
                   {DNNL_ARG_WEIGHTS, as(stream, weights_, weights_scratch_2_, data_pd_->weights_desc())},
                   {DNNL_ARG_DIFF_SRC, diff_input}});
    }
    const size_t bytes = weights_.get_desc().get_size();
    std::memcpy(gradient, diff_weights_.get_data_handle(), bytes);
    std::memcpy(gradient + bytes / sizeof(float), diff_bias_.get_data_handle(), bias_.get_desc().get_size());
  }

 private:
  bool relu_;
  std::optional<typename Forward::primitive_desc> forward_pd_;
  std::optional<typename BackwardData::primitive_desc> data_pd_;
  std::optional<typename BackwardWeights::primitive_desc> weights_pd_;
  Forward forward_;
  BackwardData backward_data_;
  BackwardWeights backward_weights_;
  dnnl::eltwise_backward relu_backward_;
  memory weights_, bias_, diff_weights_, diff_bias_;
  memory input_scratch_, input_scratch_2_, weights_scratch_, weights_scratch_2_, diff_weights_scratch_,
      diff_output_scratch_, diff_output_scratch_2_;
};

using Convolution =
    Linear<dnnl::convolution_forward, dnnl::convolution_backward_data, dnnl::convolution_backward_weights>;
using Dense =
    Linear<dnnl::inner_product_forward, dnnl::inner_product_backward_data, dnnl::inner_product_backward_weights>;

prop_kind kind_of(Network::Use use) {
  return use == Network::Use::train ? prop_kind::forward_training : prop_kind::forward_inference;
}

std::unique_ptr<Layer> make_convolution(memory input, int64_t outputs, Network::Use use, bool wants_diff_input) {
  const memory::dims in = input.get_desc().dims();
  const auto any = [](const memory::dims& dims) { return memory::desc(dims, kFloat, Tag::any); };
  const memory::dims weights{outputs, in[1], 3, 3}, stride{1, 1}, pad{1, 1};
  const Convolution::Descriptors d{{weights, kFloat, Tag::oihw},
                                   any(weights),
                                   {{outputs}, kFloat, Tag::x},
                                   any(in),
                                   any({in[0], outputs, in[2], in[3]})};
  const auto algorithm = dnnl::algorithm::convolution_direct;
  using Data = Convolution::Descriptors;
  return std::make_unique<Convolution>(
      input, d, true, use, wants_diff_input,
      [=](const Data& x) {
        return dnnl::convolution_forward::desc(kind_of(use), algorithm, x.input, x.weights_any, x.bias, x.output_any,
                                               stride, pad, pad);
      },
      [=](const Data& x) {
        return dnnl::convolution_backward_data::desc(algorithm, x.input, x.weights_any, x.output_any, stride, pad, pad);
      },
      [=](const Data& x) {
        return dnnl::convolution_backward_weights::desc(algorithm, x.input, x.weights_any, x.bias, x.output_any, stride,
                                                        pad, pad);
      });
}

std::unique_ptr<Layer> make_dense(memory input, int64_t outputs, bool relu, Network::Use use, bool wants_diff_input) {
  const memory::dims in = input.get_desc().dims();
  memory::dims weights = in;
  weights[0] = outputs;
  const bool image = in.size() == 4;
  const Dense::Descriptors d{{weights, kFloat, image ? Tag::oihw : Tag::oi},
                             {weights, kFloat, Tag::any},
                             {{outputs}, kFloat, Tag::x},
                             {in, kFloat, image ? Tag::any : Tag::nc},
                             {{in[0], outputs}, kFloat, Tag::nc}};
  using Data = Dense::Descriptors;
  return std::make_unique<Dense>(
      input, d, relu, use, wants_diff_input,
      [=](const Data& x) {
        return dnnl::inner_product_forward::desc(kind_of(use), x.input, x.weights_any, x.bias, x.output_any);
      },
      [=](const Data& x) { return dnnl::inner_product_backward_data::desc(x.input, x.weights_any, x.output_any); },
      [=](const Data& x) {
        return dnnl::inner_product_backward_weights::desc(x.input, x.weights_any, x.bias, x.output_any);
      });
}

// Maximum over 2 x 2.
class Pool : public Layer {
 public:
  Pool(memory from, Network::Use use) {
    input = from;
    const memory::dims in = input.get_desc().dims();
    const memory::desc out({in[0], in[1], in[2] / 2, in[3] / 2}, kFloat, Tag::any);
    const memory::dims two{2, 2}, none{0, 0};
    const dnnl::pooling_forward::desc d(kind_of(use), dnnl::algorithm::pooling_max, input.get_desc(), out, two, two,
                                        none, none);
    const dnnl::pooling_forward::primitive_desc pd(d, engine());
    forward_ = dnnl::pooling_forward(pd);
    output = memory(pd.dst_desc(), engine());
    if (use == Network::Use::predict) return;
    workspace_ = memory(pd.workspace_desc(), engine());
    diff_output = memory(pd.dst_desc(), engine());
    diff_input = memory(input.get_desc(), engine());
    backward_ = dnnl::pooling_backward(
        {{dnnl::algorithm::pooling_max, input.get_desc(), pd.dst_desc(), two, two, none, none}, engine(), pd});
  }
  void forward(dnnl::stream& stream, const float*) override {
    std::unordered_map<int, memory> arguments{{DNNL_ARG_SRC, input}, {DNNL_ARG_DST, output}};
    if (workspace_) arguments[DNNL_ARG_WORKSPACE] = workspace_;
    forward_.execute(stream, arguments);
  }
  void backward(dnnl::stream& stream, float*) override {
    backward_.execute(
        stream, {{DNNL_ARG_DIFF_DST, diff_output}, {DNNL_ARG_DIFF_SRC, diff_input}, {DNNL_ARG_WORKSPACE, workspace_}});
  }

 private:
  dnnl::pooling_forward forward_;
  dnnl::pooling_backward backward_;
  memory workspace_;
};

}  // namespace

std::vector<NetworkShape::Group> NetworkShape::groups() const {
  std::vector<Group> result;
  int64_t inputs = features;
  if (channels > 0) {
    const int64_t first = int64_t{9} * image_channels, second = int64_t{9} * channels;
    result.push_back({channels * first, channels, first});
    result.push_back({2 * channels * second, 2 * channels, second});
    inputs = int64_t{2} * channels * (height / 4) * (width / 4);
  }
  if (hidden > 0) {
    result.push_back({hidden * inputs, hidden, inputs});
    inputs = hidden;
  }
  result.push_back({classes * inputs, classes, inputs});
  return result;
}

int64_t NetworkShape::parameters() const {
  int64_t total = 0;
  for (const Group& group : groups()) total += group.weights + group.biases;
  return total;
}

struct Network::State {
  dnnl::stream stream{engine()};
  std::vector<std::unique_ptr<Layer>> layers;
  std::vector<int64_t> offsets;  // of each layer's parameters; pooling has none
  memory input, logits, diff_logits;
};

Network::Network(const NetworkShape& shape, int64_t batch, Use use) : state_(std::make_unique<State>()) {
  omp_set_num_threads(1);  // of the calling thread: experts run side by side instead
  State& s = *state_;
  std::vector<bool> has_parameters;
  const auto append = [&](std::unique_ptr<Layer> layer, bool parameters) {
    s.layers.push_back(std::move(layer));
    has_parameters.push_back(parameters);
    return s.layers.back()->output;
  };
  memory at;
  if (shape.channels > 0) {
    s.input = memory({{batch, shape.image_channels, shape.height, shape.width}, kFloat, Tag::nchw}, engine());
    at = append(make_convolution(s.input, shape.channels, use, false), true);
    at = append(std::make_unique<Pool>(at, use), false);
    at = append(make_convolution(at, int64_t{2} * shape.channels, use, true), true);
    at = append(std::make_unique<Pool>(at, use), false);
  } else {
    s.input = memory({{batch, shape.features}, kFloat, Tag::nc}, engine());
    at = s.input;
  }
  if (shape.hidden > 0) {
    const bool wants = !s.layers.empty();
    at = append(make_dense(at, shape.hidden, true, use, wants), true);
  }
  const bool wants = !s.layers.empty();
  append(make_dense(at, shape.classes, false, use, wants), true);
  const auto groups = shape.groups();
  int64_t offset = 0;
  size_t group = 0;
  for (const bool parameters : has_parameters) {
    s.offsets.push_back(offset);
    if (parameters) offset += groups[group].weights + groups[group].biases, ++group;
  }
}

Network::~Network() = default;

void Network::forward(std::span<const float> parameters, std::span<const float> rows, std::span<float> logits) {
  State& s = *state_;
  std::memcpy(s.input.get_data_handle(), rows.data(), rows.size_bytes());
  for (size_t k = 0; k < s.layers.size(); ++k) s.layers[k]->forward(s.stream, parameters.data() + s.offsets[k]);
  s.stream.wait();
  std::memcpy(logits.data(), s.layers.back()->output.get_data_handle(), logits.size_bytes());
}

void Network::backward(std::span<const float> logit_gradient, std::span<float> gradient) {
  State& s = *state_;
  std::memcpy(s.layers.back()->diff_output.get_data_handle(), logit_gradient.data(), logit_gradient.size_bytes());
  for (size_t k = s.layers.size(); k-- > 0;) {
    Layer& layer = *s.layers[k];
    layer.backward(s.stream, gradient.data() + s.offsets[k]);
    if (k > 0) {
      memory& to = s.layers[k - 1]->diff_output;
      if (layer.diff_input.get_desc() == to.get_desc()) {
        std::memcpy(to.get_data_handle(), layer.diff_input.get_data_handle(), to.get_desc().get_size());
      } else {
        dnnl::reorder(layer.diff_input, to).execute(s.stream, layer.diff_input, to);
      }
    }
  }
  s.stream.wait();
}

}  // namespace tessera::experts
