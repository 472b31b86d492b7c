#include "tessera/base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace tessera {
namespace {

constexpr int kBarWidth = 30;

std::string duration(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  return whole >= 60 ? fmt::format("{}m{:02}s", whole / 60, whole % 60) : fmt::format("{}s", whole);
}

}  // namespace

Progress::Progress(std::string name, int64_t total, int64_t done)
    : name_(std::move(name)), total_(total), done_(done), first_(done), terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (terminal_ && done_ > first_) std::fputc('\n', stderr);
}

void Progress::advance(std::string_view what) {
  ++done_;
  const bool tenth = total_ > 0 && done_ * 10 / total_ != (done_ - 1) * 10 / total_;
  if (terminal_ || tenth || done_ == total_) draw(what);
}

void Progress::draw(std::string_view what) {
  const double seconds = watch_.elapsed().wall_ms / 1000;
  const double left = seconds / static_cast<double>(std::max<int64_t>(1, done_ - first_)) * static_cast<double>(total_ - done_);
  if (terminal_) {
    const auto filled = static_cast<size_t>(total_ > 0 ? done_ * kBarWidth / total_ : kBarWidth);
    fmt::print(stderr, "\r\033[K{} [{}{}] {}/{} {} left  {}", name_, std::string(filled, '#'),
               std::string(kBarWidth - std::min<size_t>(filled, kBarWidth), '.'), done_, total_, duration(left), what);
  } else {
    fmt::print(stderr, "{}: {}/{} done, {} left ({})\n", name_, done_, total_, duration(left), what);
  }
  std::fflush(stderr);
}

}  // namespace tessera
