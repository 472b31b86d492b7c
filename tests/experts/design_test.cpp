#include "tessera/experts/design.h"

#include <gtest/gtest.h>

#include "tessera/base/error.h"

namespace tessera::experts {
namespace {

TEST(CheckDesign, NamesWhatIsWrong) {
  EXPECT_NO_THROW(check_design({.classes = 3, .sets = {{0, 1}, {0, 2}, {1, 2}}}));
  EXPECT_THROW(check_design({.classes = 0, .sets = {}}), Error);
  EXPECT_THROW(check_design({.classes = 3, .sets = {{}}}), Error);
  EXPECT_THROW(check_design({.classes = 3, .sets = {{1, 0}}}), Error);
  EXPECT_THROW(check_design({.classes = 3, .sets = {{1, 1}}}), Error);
  EXPECT_THROW(check_design({.classes = 3, .sets = {{2, 3}}}), Error);
}

}  // namespace
}  // namespace tessera::experts
