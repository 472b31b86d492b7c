#include "model/chat_template_shape.h"

#include "model/text/utf8.h"

namespace tessera::model {
namespace {

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

class ShapeReader {
 public:
  explicit ShapeReader(std::string_view jinja) : rest_(jinja) {}

  std::string read() {
    while (!rest_.empty()) {
      if (rest_.starts_with("{#")) {
        skip_comment();
      } else if (rest_.starts_with("{{")) {
        read_tag("}}");
      } else if (rest_.starts_with("{%")) {
        read_tag("%}");
      } else {
        if (!is_space(rest_[0])) shape_ += rest_[0];
        rest_.remove_prefix(1);
      }
    }
    return std::move(shape_);
  }

 private:
  void skip_comment() {
    const size_t end = rest_.find("#}");
    rest_ = end == std::string_view::npos ? std::string_view() : rest_.substr(end + 2);
  }

  void read_tag(std::string_view close) {
    shape_ += rest_.substr(0, 2);
    rest_.remove_prefix(2);
    if (rest_.starts_with('-')) rest_.remove_prefix(1);
    std::string tag;
    while (!rest_.empty() && !rest_.starts_with(close)) {
      const char c = rest_[0];
      if (c == '\'' || c == '"') {
        read_string(tag);
        continue;
      }
      if (!is_space(c)) tag += c;
      rest_.remove_prefix(1);
    }
    if (tag.ends_with('-')) tag.pop_back();
    tag = text::replace_all(tag, "message.role", "message['role']");
    tag = text::replace_all(tag, "message.content", "message['content']");
    tag = text::replace_all(tag, "'+'", "");
    shape_ += tag;
    shape_ += close;
    rest_.remove_prefix(rest_.empty() ? 0 : 2);
  }

  void read_string(std::string& tag) {
    const char quote = rest_[0];
    rest_.remove_prefix(1);
    tag += '\'';
    while (!rest_.empty() && rest_[0] != quote) {
      const size_t length = rest_[0] == '\\' && rest_.size() > 1 ? 2 : 1;
      if (rest_[0] == '\n') {
        tag += "\\n";
      } else {
        tag += rest_.substr(0, length);
      }
      rest_.remove_prefix(length);
    }
    tag += '\'';
    if (!rest_.empty()) rest_.remove_prefix(1);
  }

  std::string_view rest_;
  std::string shape_;
};

}  // namespace

std::string jinja_shape(std::string_view jinja) { return ShapeReader(jinja).read(); }

}  // namespace tessera::model
