#include "scbench/report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

namespace tessera::scbench {
namespace {

// Length of the well-formed UTF-8 character at the front; 0 when there is none.
size_t character_length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  const size_t length = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (length == 1) return 1;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  uint32_t code = lead & (0xFFU >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    code = (code << 6) | (byte(i) & 0x3FU);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool forbidden = (code >= 0xD800 && code < 0xE000) || code > 0x10FFFF || (code >= 0x80 && code < 0xA0);
  return overlong || forbidden || code == 0xFFFE || code == 0xFFFF ? 0 : length;
}

std::string points_text(const std::vector<Point>& points) {
  std::string text;
  for (const Point& point : points) text += fmt::format("{}{:.1f},{:.1f}", text.empty() ? "" : " ", point.x, point.y);
  return text;
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const size_t length = character_length(text);
    const char c = text.front();
    const bool control = length == 1 && (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) && c != '\n' && c != '\t';
    if (length == 0 || control) {
      result += "\xEF\xBF\xBD";
    } else if (c == '&') {
      result += "&amp;";
    } else if (c == '<') {
      result += "&lt;";
    } else if (c == '>') {
      result += "&gt;";
    } else if (c == '"') {
      result += "&quot;";
    } else if (c == '\'') {
      result += "&#39;";
    } else {
      result += text.substr(0, length);
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return result;
}

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
