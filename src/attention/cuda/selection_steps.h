// What choosing is made of, on the device or on the host: the same bodies, so the same lists from the same masses.
#pragma once

#include <memory>

#include "attention/cuda/block_lists.h"
#include "attention/cuda/line_choice_launch.h"
#include "attention/cuda/line_lists_launch.h"
#include "attention/cuda/probe.h"

namespace tessera::attention::cuda {

// Each call may return before its work is done; calls run in order. Throws Error when something cannot be launched.
class SelectionSteps {
 public:
  virtual ~SelectionSteps() = default;

  virtual void clear(void* memory, std::size_t bytes) = 0;
  virtual void probe(const Probe& probe, ProbeKind kind) = 0;
  virtual void column_groups(const Probe& probe) = 0;
  virtual void choose_columns(const LineChoice& choice, int32_t heads, bool again) = 0;
  virtual void choose_bands(const LineChoice& choice, int32_t heads) = 0;
  virtual void count_lines(const LineListArguments& arguments, const LineLists& lists) = 0;
  virtual void write_lines(const LineListArguments& arguments, const LineLists& lists) = 0;
  virtual void count_blocks(const BlockLists& arguments, const LineLists& lists) = 0;
  virtual void write_blocks(const BlockLists& arguments, const LineLists& lists) = 0;
  virtual void begin_lists(const LineLists& lists, int64_t count) = 0;
  virtual void end_lists(const LineLists& lists, int64_t count) = 0;
  virtual int multiprocessors() = 0;  // that the probe's ranges are cut for
};

// exact: the probe of exact_probe.h. The host knows no other.
std::unique_ptr<SelectionSteps> device_steps(bool half_precision, bool exact, void* stream);
std::unique_ptr<SelectionSteps> host_steps(bool half_precision);

}  // namespace tessera::attention::cuda
