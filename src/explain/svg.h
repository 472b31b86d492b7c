// A small writer of SVG drawings.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tessera::explain {

// At most `limit` bytes, cut between letters and marked.
std::string shortened(const std::string& text, size_t limit);

// At most about `wanted` round numbers that cover [low, high].
std::vector<double> ticks(double low, double high, int wanted);
// A short number for an axis or a table.
std::string short_number(double value);
// Both ends with as many digits as tell them apart.
std::string interval_text(double lower, double upper);

// Maps data to pixels along one axis.
struct Axis {
  double low = 0, high = 1;
  double from = 0, to = 1;  // pixels
  double at(double value) const {
    return high > low ? from + (value - low) / (high - low) * (to - from) : (from + to) / 2;
  }
};

class Svg {
 public:
  Svg(int width, int height);
  void line(double x1, double y1, double x2, double y2, std::string_view style_class);
  void circle(double x, double y, double radius, std::string_view style_class);
  void text(double x, double y, std::string_view words, std::string_view style_class);
  void path(const std::vector<std::pair<double, double>>& points, std::string_view style_class);
  std::string str() const;

 private:
  std::string body_;
  int width_, height_;
};

}  // namespace tessera::explain
