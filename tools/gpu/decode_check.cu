// Decode on the GPU against the fp64 host reference: formats, head_dims, groups, batches, tables, selection, graph
// replay.
//
//   decode_check [--small]        exit status 1 when a case fails; --small: fewer cases, for compute-sanitizer
//
// Pages are written by write_pages() into pools of NaN patterns, read back, and attended in fp64 from their codes. The
// selection must equal the host's run of the same bodies; a second run must give the same bits, and a captured step
// must follow lengths that change between replays.
#include <memory>
#include <numeric>
#include <string>

#include "attention/cuda/decode_format.h"
#include "attention/cuda/decode_select.h"
#include "gpu/page_code.h"
#include "gpu/support.h"

namespace {

using namespace check;
using cuda::kPageRows;
using cuda::PageFormat;

struct Case {
  const char* name;
  PageFormat format = PageFormat::bf16;
  int head_dim = 128;
  int query_heads = 8, kv_heads = 2;
  std::vector<int32_t> lengths = {1000};
  int table_heads = 1;
  int selected = 0;
  bool float_out = true;
};

class Run {
 public:
  explicit Run(const Case& c) : case_(c) {
    rows_ = *std::max_element(c.lengths.begin(), c.lengths.end());
    stride_ = std::max(1, (rows_ + kPageRows - 1) / kPageRows) + 1;
    sequences_ = static_cast<int>(c.lengths.size());
    bytes_ = cuda::page_bytes(c.format, c.head_dim);
    const size_t pages = static_cast<size_t>(sequences_) * c.kv_heads * stride_;
    const size_t heads = static_cast<size_t>(sequences_) * c.query_heads;
    queries_ = random_elements(heads * c.head_dim, 1, false);
    const size_t elements = static_cast<size_t>(sequences_) * rows_ * c.kv_heads * c.head_dim;
    keys_ = std::make_unique<DeviceArray<uint16_t>>(random_elements(elements, 2, false));
    values_ = std::make_unique<DeviceArray<uint16_t>>(random_elements(elements, 3, false));
    q_ = std::make_unique<DeviceArray<uint16_t>>(queries_);
    key_pool_ = std::make_unique<DeviceArray<uint8_t>>(pages * bytes_.key);
    value_pool_ = std::make_unique<DeviceArray<uint8_t>>(pages * bytes_.value);
    bounds_ = std::make_unique<DeviceArray<uint8_t>>(pages * bytes_.bounds);
    table_.resize(static_cast<size_t>(sequences_) * (c.table_heads == 1 ? 1 : c.kv_heads) * stride_);
    std::iota(table_.begin(), table_.end(), 0);
    std::shuffle(table_.begin(), table_.end(), std::mt19937(4));
    device_table_ = std::make_unique<DeviceArray<int32_t>>(table_);
    lengths_ = std::make_unique<DeviceArray<int32_t>>(c.lengths);
    out_ = std::make_unique<DeviceArray<uint8_t>>(heads * c.head_dim * (c.float_out ? 4 : 2));
    lse_ = std::make_unique<DeviceArray<float>>(heads);
    selected_ =
        std::make_unique<DeviceArray<int32_t>>(static_cast<size_t>(sequences_) * c.kv_heads * std::max(1, c.selected));
    must(cudaStreamCreate(&stream_), "stream");
    key_pool_->poison();
    value_pool_->poison();
    bounds_->poison();

    const auto view = [&](void* data, cuda::ElementType type, std::vector<int64_t> shape) {
      return cuda::contiguous_view(data, type, std::move(shape));
    };
    arguments_.queries = view(q_->data(), cuda::ElementType::bf16, {sequences_, c.query_heads, c.head_dim});
    arguments_.out = view(out_->data(), c.float_out ? cuda::ElementType::f32 : cuda::ElementType::bf16,
                          {sequences_, c.query_heads, c.head_dim});
    arguments_.lse = view(lse_->data(), cuda::ElementType::f32, {sequences_, c.query_heads});
    arguments_.cache = {.format = c.format,
                        .kv_heads = c.kv_heads,
                        .head_dim = c.head_dim,
                        .keys = key_pool_->data(),
                        .values = value_pool_->data(),
                        .bounds = bounds_->data(),
                        .table = device_table_->data(),
                        .lengths = lengths_->data(),
                        .table_heads = c.table_heads,
                        .table_stride = stride_};
    if (c.selected > 0) {
      arguments_.selection = {.pages = c.selected, .first_pages = 1, .last_pages = 2};
      arguments_.selected = selected_->data();
    }
    scratch_ = std::make_unique<DeviceArray<uint8_t>>(cuda::workspace_bytes(arguments_));
    cuda::PageWrite write = {
        .keys = view(keys_->data(), cuda::ElementType::bf16, {sequences_, rows_, c.kv_heads, c.head_dim}),
        .values = view(values_->data(), cuda::ElementType::bf16, {sequences_, rows_, c.kv_heads, c.head_dim}),
        .cache = arguments_.cache};
    cuda::write_pages(write, stream_);
    must(cudaStreamSynchronize(stream_), "writing pages");
    host_keys_ = key_pool_->host();
    host_values_ = value_pool_->host();
    host_bounds_ = bounds_->host();
  }
  ~Run() { cudaStreamDestroy(stream_); }

  bool check() {
    step();
    must(cudaStreamSynchronize(stream_), "decode");
    const std::vector<uint8_t> first = out_->host();
    bool good = compare(case_.lengths, "");
    step();
    must(cudaStreamSynchronize(stream_), "decode");
    if (out_->host() != first) {
      std::printf("    a second run differs\n");
      good = false;
    }
    return good && replay();
  }

 private:
  void step() {
    out_->poison();
    lse_->poison();
    selected_->poison();
    scratch_->poison();
    must(cudaDeviceSynchronize(), "poisoning");
    cuda::decode(arguments_, {scratch_->data(), scratch_->size(), stream_});
  }

  // The same graph after the lengths changed on the device.
  bool replay() {
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    must(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
    cuda::decode(arguments_, {scratch_->data(), scratch_->size(), stream_});
    must(cudaStreamEndCapture(stream_, &graph), "end of capture");
    must(cudaGraphInstantiate(&executable, graph, 0), "instantiation");
    bool good = true;
    for (const int part : {1, 3}) {
      std::vector<int32_t> lengths = case_.lengths;
      for (int32_t& length : lengths) length = length * part / 3 / kPageRows * kPageRows;  // whole pages: bounds hold
      if (part == 3) lengths = case_.lengths;
      must(cudaMemcpy(lengths_->data(), lengths.data(), lengths.size() * 4, cudaMemcpyHostToDevice), "lengths");
      out_->poison();
      lse_->poison();
      must(cudaGraphLaunch(executable, stream_), "replay");
      must(cudaStreamSynchronize(stream_), "replay");
      good = compare(lengths, " replayed") && good;
    }
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    return good;
  }

  int64_t page_index(int s, int head, int logical) const {
    if (case_.table_heads == 1) return int64_t{table_[s * stride_ + logical]} * case_.kv_heads + head;
    return table_[(s * case_.kv_heads + head) * stride_ + logical];
  }

  double number(const uint8_t* page, int row, int channel, bool is_key) const {
    const int row_bytes = case_.head_dim *
                          (case_.format == PageFormat::bf16   ? 16
                           : case_.format == PageFormat::int4 ? 4
                                                              : 8) /
                          8;
    const double code = code_number(case_.format, page + row * row_bytes, channel);
    if (case_.format == PageFormat::bf16) return code;
    const auto* parameters = reinterpret_cast<const uint16_t*>(page + kPageRows * row_bytes);
    const int group = is_key ? channel : row;
    const double zero =
        case_.format == PageFormat::fp8 ? 0 : decode(parameters[(is_key ? case_.head_dim : kPageRows) + group], true);
    return code * decode(parameters[group], true) + zero;
  }

  template <int kDim>
  std::vector<float> page_scores(const std::vector<int32_t>& lengths, int s, int head) const {
    cuda::DecodeProblem problem = {};
    problem.first_pages = 1;
    problem.last_pages = 2;
    const int pages = (lengths[s] + kPageRows - 1) / kPageRows;
    const int group = case_.query_heads / case_.kv_heads;
    std::vector<float> scores(pages, INFINITY);
    for (int page = 0; page < pages; ++page) {
      if (cuda::is_forced(problem, page, pages)) continue;
      cuda::Lanes<const uint8_t*> bounds;
      for (int lane = 0; lane < cuda::kWarp; ++lane) {
        bounds[lane] = host_bounds_.data() + page_index(s, head, page) * bytes_.bounds;
      }
      cuda::Lanes<float> best;
      cuda::page_bounds<kDim>(queries_.data() + (static_cast<size_t>(s) * case_.query_heads + head * group) * kDim,
                              kDim, group, bounds, best);
      scores[page] = best[0];
    }
    return scores;
  }

  std::vector<int32_t> expected_pages(const std::vector<int32_t>& lengths, int s, int head) const {
    const int pages = (lengths[s] + kPageRows - 1) / kPageRows;
    std::vector<int32_t> chosen(pages);
    std::iota(chosen.begin(), chosen.end(), 0);
    if (case_.selected == 0 || pages <= case_.selected) return chosen;
    std::vector<float> scores;
    switch (case_.head_dim) {
      case 64:
        scores = page_scores<64>(lengths, s, head);
        break;
      case 96:
        scores = page_scores<96>(lengths, s, head);
        break;
      case 128:
        scores = page_scores<128>(lengths, s, head);
        break;
      default:
        scores = page_scores<256>(lengths, s, head);
    }
    std::stable_sort(chosen.begin(), chosen.end(), [&](int a, int b) { return scores[a] > scores[b]; });
    chosen.resize(case_.selected);
    std::sort(chosen.begin(), chosen.end());
    return chosen;
  }

  bool compare(const std::vector<int32_t>& lengths, const char* what) {
    const std::vector<uint8_t> raw = out_->host();
    const std::vector<float> lse = lse_->host();
    const std::vector<int32_t> selected = selected_->host();
    const int group = case_.query_heads / case_.kv_heads;
    const size_t heads = static_cast<size_t>(sequences_) * case_.query_heads;
    std::vector<double> wanted(heads * case_.head_dim, 0.0);
    std::vector<double> wanted_lse(heads, -std::numeric_limits<double>::infinity());
    std::vector<char> same(heads, 1);
    parallel_for(static_cast<int64_t>(heads), [&](int64_t at) {
      const int s = static_cast<int>(at / case_.query_heads);
      const int h = static_cast<int>(at % case_.query_heads);
      const int head = h / group;
      const std::vector<int32_t> pages = expected_pages(lengths, s, head);
      if (case_.selected > 0) {
        const int32_t* found = selected.data() + (s * case_.kv_heads + head) * case_.selected;
        same[at] = std::equal(pages.begin(), pages.end(), found);
      }
      std::vector<double> scores;
      for (int page : pages) {
        const uint8_t* keys = host_keys_.data() + page_index(s, head, page) * bytes_.key;
        for (int row = 0; row < kPageRows && page * kPageRows + row < lengths[s]; ++row) {
          double score = 0;
          for (int c = 0; c < case_.head_dim; ++c) {
            score += decode(queries_[at * case_.head_dim + c], false) * number(keys, row, c, true);
          }
          scores.push_back(score / std::sqrt(static_cast<double>(case_.head_dim)));
        }
      }
      if (scores.empty()) return;
      const double top = *std::max_element(scores.begin(), scores.end());
      double sum = 0;
      size_t i = 0;
      for (int page : pages) {
        const uint8_t* values = host_values_.data() + page_index(s, head, page) * bytes_.value;
        for (int row = 0; row < kPageRows && page * kPageRows + row < lengths[s]; ++row, ++i) {
          const double p = std::exp(scores[i] - top);
          sum += p;
          for (int c = 0; c < case_.head_dim; ++c) {
            wanted[at * case_.head_dim + c] += p * number(values, row, c, false);
          }
        }
      }
      for (int c = 0; c < case_.head_dim; ++c) wanted[at * case_.head_dim + c] /= sum;
      wanted_lse[at] = top + std::log(sum);
    });
    std::vector<float> found(wanted.size());
    for (size_t i = 0; i < found.size(); ++i) {
      if (case_.float_out) {
        std::memcpy(&found[i], raw.data() + 4 * i, 4);
      } else {
        uint16_t bits;
        std::memcpy(&bits, raw.data() + 2 * i, 2);
        found[i] = decode(bits, false);
      }
    }
    const double error = relative_error(found, wanted);
    double lse_error = 0;
    for (size_t i = 0; i < heads; ++i) {
      const double difference = wanted_lse[i] == lse[i] ? 0 : std::abs(wanted_lse[i] - lse[i]);
      if (!(difference <= lse_error)) lse_error = difference;
    }
    const bool lists = std::all_of(same.begin(), same.end(), [](char x) { return x != 0; });
    const double limit = case_.format == PageFormat::bf16 || !case_.float_out ? 4e-3 : 1e-3;
    const bool good = error < limit && lse_error < 1e-3 && lists;
    std::printf("%s %-28s%-10s out %.2e lse %.1e%s\n", good ? "ok  " : "FAIL", case_.name, what, error, lse_error,
                lists ? "" : ", other pages than the host's");
    return good;
  }

  Case case_;
  int rows_, stride_, sequences_;
  cuda::PageBytes bytes_;
  std::vector<uint16_t> queries_;
  std::vector<int32_t> table_;
  std::vector<uint8_t> host_keys_, host_values_, host_bounds_;
  std::unique_ptr<DeviceArray<uint16_t>> keys_, values_, q_;
  std::unique_ptr<DeviceArray<uint8_t>> key_pool_, value_pool_, bounds_, out_, scratch_;
  std::unique_ptr<DeviceArray<int32_t>> device_table_, lengths_, selected_;
  std::unique_ptr<DeviceArray<float>> lse_;
  cuda::DecodeArguments arguments_;
  cudaStream_t stream_ = nullptr;
};

}  // namespace

int main(int count, char** words) {
  const bool small = count > 1 && std::string(words[1]) == "--small";
  std::vector<Case> cases = {
      {"bf16", PageFormat::bf16},
      {"fp8", PageFormat::fp8},
      {"int8", PageFormat::int8},
      {"int4", PageFormat::int4},
      {"int8 selection", PageFormat::int8, 128, 8, 2, {1000}, 2, 6},
      {"cluster bf16", PageFormat::bf16, 128, 16, 8, {3000}, 1, 20},
      {"int8 pages", PageFormat::int8, 128, 8, 8, {9600}},  // more than eight pages for a block
  };
  if (!small) {
    const std::vector<Case> more = {
        {"bf16 d64", PageFormat::bf16, 64},
        {"bf16 d96", PageFormat::bf16, 96},
        {"bf16 d256", PageFormat::bf16, 256},
        {"fp8 d64", PageFormat::fp8, 64},
        {"fp8 d96", PageFormat::fp8, 96},
        {"fp8 d256", PageFormat::fp8, 256},
        {"int8 d64", PageFormat::int8, 64},
        {"int8 d96", PageFormat::int8, 96},
        {"int8 d256", PageFormat::int8, 256},
        {"int4 d64", PageFormat::int4, 64},
        {"int4 d96", PageFormat::int4, 96},
        {"int4 d256", PageFormat::int4, 256},
        {"group 1", PageFormat::bf16, 128, 2, 2},
        {"group 2", PageFormat::int8, 128, 4, 2},
        {"group 8", PageFormat::bf16, 128, 16, 2},
        {"group 12", PageFormat::int8, 128, 24, 2},
        {"batch", PageFormat::bf16, 128, 8, 2, {1, 0, 5000, 64, 65}, 2},
        {"batch int4", PageFormat::int4, 128, 8, 2, {1, 0, 5000, 64, 65}},
        {"bf16 out", PageFormat::bf16, 128, 8, 2, {777}, 1, 0, false},
        {"long", PageFormat::bf16, 128, 8, 2, {40000}},
        {"long int8", PageFormat::int8, 128, 8, 2, {40001}, 2},
        {"bf16 pages", PageFormat::bf16, 128, 8, 8, {9601}},
        {"fp8 pages", PageFormat::fp8, 128, 8, 8, {9630}, 8},
        {"int4 pages", PageFormat::int4, 128, 8, 8, {9599}},
        {"int4 pages d96", PageFormat::int4, 96, 8, 8, {9599}},
        {"bf16 pages d256", PageFormat::bf16, 256, 8, 8, {9640}},
        {"int8 pages d64", PageFormat::int8, 64, 8, 8, {9640}},
        {"selection", PageFormat::bf16, 128, 8, 2, {40000}, 1, 39},
        {"selection pages", PageFormat::bf16, 128, 8, 8, {20000}, 1, 170},
        {"selection group 12", PageFormat::int8, 128, 24, 2, {9000, 100}, 1, 12},
        {"selection bf16 out", PageFormat::bf16, 128, 8, 2, {9000}, 1, 12, false},
        // One kernel chooses and attends where five to eight lists fill an H100.
        {"cluster", PageFormat::bf16, 128, 32, 8, {40000}, 1, 39},
        {"cluster group 1", PageFormat::fp8, 128, 8, 8, {20000}, 8, 128},
        {"cluster group 8", PageFormat::int8, 128, 56, 7, {20001}, 1, 100},
        {"selection int4", PageFormat::int4, 128, 32, 8, {20001}, 1, 100},
        {"cluster few pages", PageFormat::bf16, 128, 16, 8, {1000}, 1, 5},
        {"cluster all pages", PageFormat::int8, 128, 16, 8, {1000}, 1, 100},
        {"cluster d64", PageFormat::fp8, 64, 40, 5, {196700}, 1, 128},
        {"cluster d96 batch", PageFormat::bf16, 96, 16, 2, {9999, 0, 100, 3000}, 2, 50},
        {"cluster d256", PageFormat::int8, 256, 24, 8, {9001}, 1, 60},
        {"cluster d256 fp8", PageFormat::fp8, 256, 24, 8, {9001}, 1, 60, false},
        {"selection batch", PageFormat::int4, 96, 8, 2, {3000, 0, 100, 9999}, 2, 7},
        {"selection d64", PageFormat::fp8, 64, 8, 4, {5000}, 1, 9},
        {"selection d256", PageFormat::int8, 256, 4, 2, {5000}, 1, 9},
    };
    cases.insert(cases.end(), more.begin(), more.end());
  }
  if (count > 1 && !small) std::erase_if(cases, [&](const Case& c) { return c.name != std::string(words[1]); });
  int failures = 0;
  for (const Case& c : cases) {
    try {
      failures += !Run(c).check();
    } catch (const std::exception& error) {
      std::printf("FAIL %s: %s\n", c.name, error.what());
      ++failures;
    }
    std::fflush(stdout);
  }
  std::printf("%d of %zu cases failed\n", failures, cases.size());
  return failures > 0 ? 1 : 0;
}
