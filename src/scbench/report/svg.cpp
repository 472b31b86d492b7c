#include "scbench/report/svg.h"

#include <fmt/format.h>

#include "tessera/base/html.h"

namespace tessera::scbench {
namespace {

std::string points_text(const std::vector<Point>& points) {
  std::string text;
  for (const Point& point : points) text += fmt::format("{}{:.1f},{:.1f}", text.empty() ? "" : " ", point.x, point.y);
  return text;
}

}  // namespace

Svg::Svg(double width, double height, std::string_view title)
    : head_(fmt::format(
          "<svg viewBox=\"0 0 {:.0f} {:.0f}\" width=\"{:.0f}\" height=\"{:.0f}\" role=\"img\" aria-label=\"{}\" "
          "xmlns=\"http://www.w3.org/2000/svg\">",
          width, height, width, height, escape_html(title))) {}

void Svg::element(std::string_view shape, std::string_view style_class, std::string_view tooltip) {
  if (tooltip.empty()) {
    body_ += fmt::format("<{} class=\"{}\"/>", shape, style_class);
  } else {
    const std::string_view name = shape.substr(0, shape.find(' '));
    body_ += fmt::format("<{} class=\"{}\"><title>{}</title></{}>", shape, style_class, escape_html(tooltip), name);
  }
}

void Svg::rectangle(const Box& box, std::string_view style_class, std::string_view tooltip) {
  element(fmt::format("rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"2\"", box.x, box.y,
                      std::max(0.0, box.width), std::max(0.0, box.height)),
          style_class, tooltip);
}

void Svg::line(Point from, Point to, std::string_view style_class) {
  element(fmt::format("line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"", from.x, from.y, to.x, to.y),
          style_class, {});
}

void Svg::polyline(const std::vector<Point>& points, std::string_view style_class) {
  element(fmt::format("polyline points=\"{}\"", points_text(points)), style_class, {});
}

void Svg::polygon(const std::vector<Point>& points, std::string_view style_class) {
  element(fmt::format("polygon points=\"{}\"", points_text(points)), style_class, {});
}

void Svg::marker(Point at, size_t shape, std::string_view style_class, std::string_view tooltip) {
  constexpr double kRadius = 4;
  const auto around = [&](std::vector<Point> corners) {
    for (Point& corner : corners) corner = {at.x + kRadius * corner.x, at.y + kRadius * corner.y};
    return fmt::format("polygon points=\"{}\"", points_text(corners));
  };
  switch (shape % 4) {
    case 0:
      return element(fmt::format("circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\"", at.x, at.y, kRadius), style_class,
                     tooltip);
    case 1:
      return element(around({{-0.9, -0.9}, {0.9, -0.9}, {0.9, 0.9}, {-0.9, 0.9}}), style_class, tooltip);
    case 2:
      return element(around({{0, -1.3}, {1.3, 0}, {0, 1.3}, {-1.3, 0}}), style_class, tooltip);
    default:
      return element(around({{0, -1.2}, {1.15, 0.9}, {-1.15, 0.9}}), style_class, tooltip);
  }
}

void Svg::text(Point at, std::string_view content, std::string_view style_class, std::string_view tooltip) {
  const std::string title = tooltip.empty() ? "" : fmt::format("<title>{}</title>", escape_html(tooltip));
  body_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\">{}{}</text>", at.x, at.y, style_class, title,
                       escape_html(content));
}

std::string Svg::str() const { return head_ + body_ + "</svg>"; }

}  // namespace tessera::scbench
