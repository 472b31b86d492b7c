#include "experts/report/drawing.h"

#include <fmt/format.h>

#include "tessera/base/html.h"

namespace tessera::experts {

Drawing::Drawing(double width, double height, std::string_view label)
    : body_(fmt::format("<svg viewBox=\"0 0 {:.0f} {:.0f}\" width=\"{:.0f}\" height=\"{:.0f}\" role=\"img\" "
                        "aria-label=\"{}\">",
                        width, height, width, height, escape_html(label))) {}

void Drawing::rectangle(double x, double y, double width, double height, std::string_view style_class, double opacity) {
  body_ += fmt::format("<rect x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" class=\"{}\"", x, y, width,
                       height, style_class);
  if (opacity < 1) body_ += fmt::format(" fill-opacity=\"{:.3f}\"", opacity);
  body_ += "/>";
}

void Drawing::line(double x1, double y1, double x2, double y2, std::string_view style_class) {
  body_ += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>", x1, y1, x2, y2,
                       style_class);
}

void Drawing::circle(double x, double y, double radius, std::string_view style_class, std::string_view title) {
  body_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\" class=\"{}\"><title>{}</title></circle>", x, y,
                       radius, style_class, escape_html(title));
}

void Drawing::text(double x, double y, std::string_view words, std::string_view anchor) {
  body_ +=
      fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>", x, y, anchor, escape_html(words));
}

void Drawing::vertical_text(double x, double y, std::string_view words) {
  body_ += fmt::format("<text transform=\"translate({:.1f} {:.1f}) rotate(-90)\">{}</text>", x, y, escape_html(words));
}

}  // namespace tessera::experts
