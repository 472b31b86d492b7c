#include "attention/cuda/device.h"
#include "attention/cuda/probe_hopper.h"
#include "attention/cuda/selection_steps.h"
#include "attention/cuda/status.h"
#include "attention/cuda/tensor_map.h"
#include "tessera/attention/cuda.h"

namespace tessera::attention::cuda {
namespace {

void must(int status, const char* what) { check_cuda(static_cast<cudaError_t>(status), what); }

class DeviceSteps final : public SelectionSteps {
 public:
  DeviceSteps(bool half_precision, bool exact, void* stream)
      : half_precision_(half_precision), exact_(exact), stream_(stream) {}

  void clear(void* memory, std::size_t bytes) override {
    check_cuda(cudaMemsetAsync(memory, 0, bytes, static_cast<cudaStream_t>(stream_)), "clearing memory");
  }
  void probe(const Probe& probe, ProbeKind kind) override {
    const bool hopper = probe.head_dim <= kHopperProbeHeadDim && kernel_for(compute_capability()) == Kernel::wgmma;
    if (hopper && !exact_) {
      must(launch_hopper_probe(probe, map_keys(probe), kind, {half_precision_, stream_}), "launching the probe");
    } else {
      must((exact_ ? launch_exact_probe : launch_probe)(probe, kind, half_precision_, stream_), "launching the probe");
    }
  }
  void column_groups(const Probe& probe) override {
    must((exact_ ? launch_exact_column_groups : launch_column_groups)(probe, half_precision_, stream_),
         "launching the column masses");
  }
  void choose_columns(const LineChoice& choice, int32_t heads, bool again) override {
    must(launch_choose_columns(choice, heads, again, stream_), "launching the choice of columns");
  }
  void choose_bands(const LineChoice& choice, int32_t heads) override {
    must(launch_choose_bands(choice, heads, stream_), "launching the choice of bands");
  }
  void count_lines(const LineListArguments& arguments, const LineLists& lists) override {
    must(count_line_lists(arguments, lists, stream_), "launching the counts of the lists");
  }
  void write_lines(const LineListArguments& arguments, const LineLists& lists) override {
    must(write_line_lists(arguments, lists, stream_), "launching the lists");
  }
  void count_blocks(const BlockLists& arguments, const LineLists& lists) override {
    must(count_block_lists(arguments, lists, stream_), "launching the counts of the block lists");
  }
  void write_blocks(const BlockLists& arguments, const LineLists& lists) override {
    must(write_block_lists(arguments, lists, stream_), "launching the block lists");
  }
  void begin_lists(const LineLists& lists, int64_t count) override {
    must(cuda::begin_lists(lists, count, stream_), "launching the scan of the lists");
  }
  void end_lists(const LineLists& lists, int64_t count) override {
    must(cuda::end_lists(lists, count, stream_), "launching the ends of the lists");
  }
  // The exact probe's blocks have one query head each and share a multiprocessor.
  int multiprocessors() override { return (exact_ ? 2 : 1) * cuda::multiprocessors(); }

 private:
  CUtensorMap map_keys(const Probe& probe) const {
    return encode_tensor_map({.data = probe.keys,
                              .half_precision = half_precision_,
                              .rows = probe.key_rows,
                              .heads = probe.kv_heads,
                              .head_dim = probe.head_dim,
                              .row_stride = probe.key_stride[0],
                              .head_stride = probe.key_stride[1],
                              .box_rows = kProbeKeys});
  }

  bool half_precision_;
  bool exact_;
  void* stream_;
};

}  // namespace

std::unique_ptr<SelectionSteps> device_steps(bool half_precision, bool exact, void* stream) {
  return std::make_unique<DeviceSteps>(half_precision, exact, stream);
}

}  // namespace tessera::attention::cuda
