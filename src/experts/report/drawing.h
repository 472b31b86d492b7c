// Pieces of an SVG drawing.
#pragma once

#include <string>
#include <string_view>

namespace tessera::experts {

class Drawing {
 public:
  Drawing(double width, double height, std::string_view label);
  void rectangle(double x, double y, double width, double height, std::string_view style_class, double opacity = 1);
  void line(double x1, double y1, double x2, double y2, std::string_view style_class);
  void circle(double x, double y, double radius, std::string_view style_class, std::string_view title);
  // anchor: start, middle or end.
  void text(double x, double y, std::string_view words, std::string_view anchor);
  void vertical_text(double x, double y, std::string_view words);
  std::string str() const { return body_ + "</svg>\n"; }

 private:
  std::string body_;
};

}  // namespace tessera::experts
