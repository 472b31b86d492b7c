#include "tessera/base/html.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

TEST(Escape, KeepsUtf8AndReplacesTheRest) {
  EXPECT_EQ(escape_html("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
  EXPECT_EQ(escape_html("\xC3\xBC \xE2\x82\xAC \xF0\x9F\x98\x80"), "\xC3\xBC \xE2\x82\xAC \xF0\x9F\x98\x80");
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(escape_html("\xC3"), bad);
  EXPECT_EQ(escape_html("\xC0\xAF"), bad + bad);            // overlong
  EXPECT_EQ(escape_html("\xED\xA0\x80"), bad + bad + bad);  // surrogate
  EXPECT_EQ(escape_html(std::string("\0", 1)), bad);
  EXPECT_EQ(escape_html("a\nb\tc"), "a\nb\tc");
}

}  // namespace
}  // namespace tessera
