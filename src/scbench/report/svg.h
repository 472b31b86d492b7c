// A small writer of SVG pictures. Colours come from the page's style sheet through class names, so that one picture
// serves light and dark pages. All text is escaped.
//
//   Svg svg(400, 200, "what the picture shows");
//   svg.rectangle({10, 10, 80, 20}, "fill-0", "dense: 1.2 s");
//   page += svg.str();
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tessera::scbench {

struct Point {
  double x = 0;
  double y = 0;
};

struct Box {
  double x = 0;
  double y = 0;
  double width = 0;
  double height = 0;
};

class Svg {
 public:
  // In pixels; the page scales the picture down where there is less room. `title` is read by screen readers.
  Svg(double width, double height, std::string_view title);

  // `style_class`: class names of the style sheet. `tooltip`: empty for none.
  void rectangle(const Box& box, std::string_view style_class, std::string_view tooltip = {});
  void line(Point from, Point to, std::string_view style_class);
  void polyline(const std::vector<Point>& points, std::string_view style_class);
  void polygon(const std::vector<Point>& points, std::string_view style_class);
  // Series keep apart by shape as well as by colour: circle, square, diamond, triangle, and again from the first.
  void marker(Point at, size_t shape, std::string_view style_class, std::string_view tooltip = {});
  // `style_class` also tells the anchor: "start", "middle" or "end" among its names.
  void text(Point at, std::string_view content, std::string_view style_class, std::string_view tooltip = {});

  std::string str() const;

 private:
  void element(std::string_view shape, std::string_view style_class, std::string_view tooltip);

  std::string head_;
  std::string body_;
};

}  // namespace tessera::scbench
