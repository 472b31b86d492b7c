#include "explain/svg.h"

#include <fmt/format.h>

#include <cmath>

#include "tessera/base/html.h"

namespace tessera::explain {

std::string shortened(const std::string& text, size_t limit) {
  if (text.size() <= limit) return text;
  size_t cut = limit - 1;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;  // never inside a UTF-8 sequence
  return text.substr(0, cut) + "…";
}

std::vector<double> ticks(double low, double high, int wanted) {
  if (!(high > low)) return {low};
  const double raw = (high - low) / wanted;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  const double step = power * (raw / power <= 1 ? 1 : raw / power <= 2 ? 2 : raw / power <= 5 ? 5 : 10);
  std::vector<double> result;
  for (double value = std::ceil(low / step) * step; value <= high + step * 1e-9 && result.size() < 50; value += step) {
    result.push_back(std::abs(value) < step * 1e-9 ? 0 : value);
  }
  return result;
}

std::string short_number(double value) {
  if (!std::isfinite(value)) return "–";
  const std::string text = fmt::format("{:.3g}", value);
  return value < 0 ? "−" + text.substr(1) : text;
}

std::string interval_text(double lower, double upper) {
  const auto with = [](double value, int digits) {
    const std::string text = fmt::format("{:.{}g}", value, digits);
    return value < 0 ? "−" + text.substr(1) : text;
  };
  if (!std::isfinite(lower) || !std::isfinite(upper)) return short_number(lower) + " to " + short_number(upper);
  int digits = 3;
  while (digits < 8 && lower != upper && with(lower, digits) == with(upper, digits)) ++digits;
  return with(lower, digits) + " to " + with(upper, digits);
}

Svg::Svg(int width, int height) : width_(width), height_(height) {}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view style_class) {
  body_ += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>", x1, y1, x2, y2,
                       style_class);
}

void Svg::circle(double x, double y, double radius, std::string_view style_class) {
  body_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\" class=\"{}\"/>", x, y, radius, style_class);
}

void Svg::text(double x, double y, std::string_view words, std::string_view style_class) {
  body_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\">{}</text>", x, y, style_class, escape_html(words));
}

void Svg::path(const std::vector<std::pair<double, double>>& points, std::string_view style_class) {
  std::string data;
  for (const auto& [x, y] : points) data += fmt::format("{}{:.1f} {:.1f}", data.empty() ? "M" : "L", x, y);
  body_ += fmt::format("<path d=\"{}\" class=\"{}\"/>", data, style_class);
}

std::string Svg::str() const {
  return fmt::format("<svg viewBox=\"0 0 {} {}\" width=\"{}\" height=\"{}\" role=\"img\">{}</svg>\n", width_, height_,
                     width_, height_, body_);
}

}  // namespace tessera::explain
