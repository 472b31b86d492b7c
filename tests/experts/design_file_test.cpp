#include "tessera/experts/design_file.h"

#include <gtest/gtest.h>

#include "tessera/base/error.h"
#include "tessera/base/random.h"

namespace tessera::experts {
namespace {

constexpr const char* kGood =
    R"({"format": "tessera-design", "version": 1, "classes": 3, "sets": [[0, 1], [2, 0], [1, 2]],
        "class_names": ["a", "b", "c"], "certificate": {"method": "by hand"}})";

std::string replaced(const std::string& from, const std::string& to) {
  std::string text = kGood;
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(DesignFile, ReadsWhatItWrites) {
  const DesignFile file = parse_design(kGood, "good");
  EXPECT_EQ(file.design.sets[1], (std::vector<int>{0, 2}));
  const DesignFile again = parse_design(format_design(file), "again");
  EXPECT_EQ(again.design.sets, file.design.sets);
  EXPECT_EQ(again.class_names, file.class_names);
  EXPECT_EQ(again.certificate, file.certificate);
}

TEST(DesignFile, RefusesEveryFault) {
  const std::pair<const char*, const char*> faults[] = {{"tessera-design", "tessera-answers"},
                                                        {"\"version\": 1", "\"version\": 2"},
                                                        {"\"classes\": 3", "\"classes\": 0"},
                                                        {"\"classes\": 3", "\"classes\": -1"},
                                                        {"\"classes\": 3", "\"classes\": 1e99"},
                                                        {"\"classes\": 3", "\"classes\": \"3\""},
                                                        {"\"classes\": 3", "\"classes\": 20001"},
                                                        {"[0, 1]", "[]"},
                                                        {"[0, 1]", "[0, 0]"},
                                                        {"[0, 1]", "[0, 3]"},
                                                        {"[0, 1]", "[0, -1]"},
                                                        {"[0, 1]", "[0, 0.5]"},
                                                        {"[0, 1]", "[0, 1, 2, 0]"},
                                                        {"[0, 1]", "7"},
                                                        {"[[0, 1], [2, 0], [1, 2]]", "{}"},
                                                        {"\"c\"", "\"a\""},
                                                        {"\"c\"", "3"},
                                                        {", \"c\"", ""},
                                                        {"{\"method\": \"by hand\"}", "[]"},
                                                        {"\"sets\"", "\"groups\""}};
  for (const auto& [from, to] : faults) {
    EXPECT_THROW(parse_design(replaced(from, to), "file"), Error) << from << " -> " << to;
  }
  EXPECT_THROW(parse_design("", "file"), Error);
  EXPECT_THROW(parse_design("[]", "file"), Error);
}

TEST(DesignFile, AnyDamageGivesADesignOrAnError) {
  Random random(1);
  const std::string good = kGood;
  for (int trial = 0; trial < 3000; ++trial) {
    std::string text = good;
    for (int64_t edits = 1 + random.below(4); edits > 0; --edits) {
      const auto at = static_cast<size_t>(random.below(static_cast<int64_t>(text.size())));
      switch (random.below(3)) {
        case 0:
          text[at] = static_cast<char>(random.below(256));
          break;
        case 1:
          text.erase(at, 1);
          break;
        default:
          text.resize(at + 1);
      }
    }
    Design design{.classes = 1, .sets = {}};
    try {
      design = parse_design(text, "damaged").design;
    } catch (const Error&) {
    }
    EXPECT_NO_THROW(check_design(design));
  }
}

}  // namespace
}  // namespace tessera::experts
