#include "tessera/engine/method.h"

#include <gtest/gtest.h>

#include "tessera/base/error.h"

namespace tessera::engine {
namespace {

std::string message_of(const std::string& text) {
  try {
    Method::parse(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    return error.what();
  }
  ADD_FAILURE() << "'" << text << "' was accepted";
  return "";
}

TEST(Method, PrintsWhatItParses) {
  for (const char* text :
       {"dense", "a-shape(sinks=128, window=3968)", "tri-shape(sinks=1, window=2, last=3)", "streaming-llm(sinks=4, window=60)",
        "snapkv(capacity=1024, window=32, pool=7, pooling=maximum)", "kivi(bits=4, group=32, residual=128)",
        "quest(budget=256, page=16, dense_layers=0)"}) {
    EXPECT_EQ(Method::parse(text).str(), text);
  }
}

TEST(Method, CanonicalFormIsAFixedPoint) {
  for (const char* text : {"vertical-slash", "vertical-slash(recall=0.9)", "auto", "block-sparse", "snapkv", "quest",
                           "quest+ kivi +a-shape", " vertical-slash (vertical=7,slash = 200)+snapkv(capacity=64)"}) {
    const std::string canonical = Method::parse(text).str();
    EXPECT_EQ(Method::parse(canonical).str(), canonical) << text;
  }
}

TEST(Method, StagesComeInTheOrderOfTheLifeCycle) {
  const Method method = Method::parse("quest + snapkv + a-shape");
  EXPECT_TRUE(method.prefill && method.cache && method.load);
  EXPECT_LT(method.str().find("a-shape"), method.str().find("snapkv"));
  EXPECT_LT(method.str().find("snapkv"), method.str().find("quest"));
}

TEST(Method, DenseIsTheEmptyMethod) {
  const Method method = Method::parse("dense");
  EXPECT_FALSE(method.prefill || method.cache || method.load);
  EXPECT_EQ(Method().str(), "dense");
}

TEST(Method, EveryHelpLineNamesAMethodThatParses) {
  for (const std::string& line : method_help()) {
    EXPECT_NO_THROW(Method::parse(line.substr(0, line.find_first_of(" (")))) << line;
  }
}

TEST(Method, MistakesAreNamed) {
  EXPECT_NE(message_of("snap").find("expected one of dense, a-shape"), std::string::npos);
  EXPECT_NE(message_of("").find("expected a method name"), std::string::npos);
  EXPECT_NE(message_of("dense + kivi").find("stands alone"), std::string::npos);
  EXPECT_NE(message_of("snapkv + kivi").find("two policies for the cache stage"), std::string::npos);
  EXPECT_NE(message_of("snapkv(budget=3)").find("it takes capacity, window, pool, pooling"), std::string::npos);
  EXPECT_NE(message_of("snapkv(capacity=many)").find("expected a whole number from 2"), std::string::npos);
  EXPECT_NE(message_of("snapkv(capacity=10").find("expected ',' or ')'"), std::string::npos);
  EXPECT_NE(message_of("snapkv(capacity=10, capacity=20)").find("expected one value"), std::string::npos);
  EXPECT_NE(message_of("auto(recall=nan)").find("expected a number"), std::string::npos);
  EXPECT_NE(message_of("a-shape(sinks=-1)").find("from 0"), std::string::npos);
  EXPECT_NE(message_of("a-shape kivi").find("expected '+' or the end at character 9"), std::string::npos);
  message_of("snapkv(capacity=32, window=32)");
  message_of("snapkv(pool=4)");
  message_of("kivi(bits=3)");
  message_of("quest(page=5)");
  EXPECT_THROW(Method::parse("vertical-slash(config=no-such-file)"), Error);
}

}  // namespace
}  // namespace tessera::engine
