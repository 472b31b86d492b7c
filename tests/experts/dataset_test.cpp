#include "tessera/experts/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tessera/base/error.h"
#include "tessera/base/random.h"
#include "tessera/experts/combine.h"
#include "tessera/experts/distributed.h"
#include "tessera/experts/fit.h"

namespace tessera::experts {
namespace {

using namespace std::string_literals;

template <typename Call>
std::string message_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Readers, Csv) {
  const Dataset data = parse_csv_dataset("a,class,b\n1,T,2\n3,\"A\",-4.5\n", "x.csv", {});
  EXPECT_EQ(data.rows, 2);
  EXPECT_THAT(data.values, testing::ElementsAre(1, 2, 3, -4.5F));
  EXPECT_THAT(data.classes, testing::ElementsAre("A", "T"));
  EXPECT_THAT(data.labels, testing::ElementsAre(1, 0));
  EXPECT_THAT(parse_csv_dataset("a,y\n1,10\n1,9\n", "x", {}).classes, testing::ElementsAre("9", "10"));
  EXPECT_THAT(message_of([] { parse_csv_dataset("a,y\n1,0\n2\n", "x.csv", {}); }),
              testing::HasSubstr("row 3 has 1 fields"));
  EXPECT_THAT(message_of([] { parse_csv_dataset("a,y\nq,0\n", "x.csv", {}); }), testing::HasSubstr("column 'a'"));
  EXPECT_THAT(message_of([] { parse_csv_dataset("a,y\n1,Z\n", "x.csv", {.classes = {"A"}}); }),
              testing::HasSubstr("'Z'"));
  EXPECT_NE(message_of([] { parse_csv_dataset("", "x.csv", {}); }), "");
}

TEST(Readers, Libsvm) {
  const Dataset data = parse_libsvm("+1 1:0.5 3:2\n-1 2:1\n", "x", {});
  EXPECT_THAT(data.values, testing::ElementsAre(0.5F, 0, 2, 0, 1, 0));
  EXPECT_THAT(data.classes, testing::ElementsAre("-1", "1"));
  for (const char* bad : {"1 0:1\n", "1 2:1 1:1\n", "1 a:1\n", "1 1:nan\n", "1 1\n", "", "1 99999999:1\n"}) {
    EXPECT_NE(message_of([&] { parse_libsvm(bad, "x", {}); }), "") << bad;
  }
}

TEST(Readers, IdxAndEveryCutOfIt) {
  const std::string images = "\0\0\x08\x03\0\0\0\2\0\0\0\1\0\0\0\2\x00\xff\x33\x66"s;
  const std::string labels = "\0\0\x08\x01\0\0\0\2\1\0"s;
  const Dataset data = parse_idx(images, labels, "x");
  EXPECT_THAT(data.values, testing::ElementsAre(0, 1, 0.2F, 0.4F));
  EXPECT_THAT(data.labels, testing::ElementsAre(1, 0));
  for (size_t size = 0; size < images.size(); ++size) {
    EXPECT_NE(message_of([&] { parse_idx(images.substr(0, size), labels, "x"); }), "") << size;
  }
  for (size_t size = 0; size < labels.size(); ++size) {
    EXPECT_NE(message_of([&] { parse_idx(images, labels.substr(0, size), "x"); }), "") << size;
  }
  EXPECT_THAT(message_of([&] { parse_idx(labels, labels, "x"); }), testing::HasSubstr("magic"));
  EXPECT_THAT(
      message_of([&] { parse_idx("\0\0\x08\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"s, labels, "x"); }),
      testing::HasSubstr("do not match"));
  EXPECT_THAT(message_of([] { inflate("\x1f\x8b\x08garbage", "x.gz"); }), testing::HasSubstr("x.gz"));
}

TEST(Readers, CifarAndNpy) {
  const std::string ten = "\x07"s + std::string(3072, '\xff');
  EXPECT_THAT(parse_cifar(ten, "x").labels, testing::ElementsAre(7));
  const std::string hundred = "\x01\x63"s + std::string(3072, '\0');
  EXPECT_THAT(parse_cifar(hundred, "x").labels, testing::ElementsAre(99));
  EXPECT_NE(message_of([&] { parse_cifar(ten.substr(1), "x"); }), "");
  const Matrix matrix{.rows = 2, .columns = 3, .values = {1, 2, 0, 3, 4, 1}};
  const std::string bytes = format_npy(matrix);
  EXPECT_EQ(bytes.size() % 64, 24U);
  EXPECT_EQ(parse_npy(bytes, "x").values, matrix.values);
  EXPECT_THAT(parse_npy_dataset(bytes, "x", {}).labels, testing::ElementsAre(0, 1));
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_NE(message_of([&] { parse_npy(bytes.substr(0, size), "x"); }), "") << size;
  }
}

Dataset blobs(int classes, int64_t rows, uint64_t seed) {
  Random random(seed);
  Dataset data{.rows = rows, .features = 2};
  for (int k = 0; k < classes; ++k) data.classes.push_back(std::to_string(k));
  for (int64_t i = 0; i < rows; ++i) {
    const auto label = static_cast<int32_t>(i % classes);
    data.labels.push_back(label);
    for (const double centre : {3 * std::cos(label * 6.283 / classes), 3 * std::sin(label * 6.283 / classes)}) {
      data.values.push_back(static_cast<float>(centre + 0.4 * random.normal()));
    }
  }
  return data;
}

TEST(Fit, ResumesDoesNotDependOnThreadsAndRefusesOtherSettings) {
  const Design design{.classes = 4, .sets = {{0, 1, 2}, {0, 1, 3}, {2, 3}}};
  const Dataset train = blobs(4, 400, 1), test = blobs(4, 200, 2);
  const auto learner = make_learner({.hidden = 16, .epochs = 60});
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "tessera_fit_test";
  std::filesystem::remove_all(folder);
  ThreadPool one(1), three(3);
  const auto in_memory =
      ask(fit_experts(train, design, *learner, {.seed = 5, .pool = &three}), test.values, test.rows, &one);
  fit_experts(train, design, *learner, {.folder = folder, .seed = 5, .pool = &one});
  std::filesystem::remove(folder / "expert-00001.bin");
  std::vector<size_t> trained;
  const Ensemble resumed = fit_experts(train, design, *learner,
                                       {.folder = folder, .seed = 5, .done = [&](size_t j) { trained.push_back(j); }});
  EXPECT_THAT(trained, testing::ElementsAre(1));
  const Answers answers = ask(resumed, test.values, test.rows, &three);
  EXPECT_EQ(answers.probabilities, in_memory.probabilities);
  EXPECT_NO_THROW(check_answers(design, answers, "answers"));
  const Combination result = combine(design, answers);
  int64_t right = 0;
  for (size_t i = 0; i < test.labels.size(); ++i) right += result.labels[i] == test.labels[i];
  EXPECT_GT(right, 190);
  EXPECT_THROW(fit_experts(train, design, *learner, {.folder = folder, .seed = 6}), Error);
  std::filesystem::resize_file(folder / "expert-00002.bin", 40);
  EXPECT_THROW(fit_experts(train, design, *learner, {.folder = folder, .seed = 5}), Error);
  Dataset lacking = restrict_to(train, std::vector<int>{0, 1, 2});
  lacking.classes.push_back("3");
  EXPECT_THAT(message_of([&] { fit_experts(lacking, design, *learner, {}); }),
              testing::HasSubstr("no row of class '3'"));
}

TEST(Distributed, ExpertsGoWhereTheirRowsAre) {
  const Design design{.classes = 4, .sets = {{0, 1}, {1, 2}, {2, 3}, {0, 1}}};
  EXPECT_THAT(assign_experts(design, {{9, 9, 0, 0}, {1, 1, 5, 5}}), testing::ElementsAre(0, 1, 1, 0));
  // The same rows everywhere: by load.
  EXPECT_THAT(assign_experts(design, {{5, 5, 5, 5}, {5, 5, 5, 5}}), testing::ElementsAre(0, 1, 0, 1));
  EXPECT_THAT(message_of([&] {
                assign_experts(design, {{1, 1, 0, 1}, {1, 0, 1, 1}});
              }),
              testing::HasSubstr("classes of expert 1"));
}

TEST(Distributed, OneProcessTrainsTheSameExperts) {
  const Design design{.classes = 3, .sets = {{0, 1}, {0, 2}, {1, 2}}};
  const Dataset train = blobs(3, 90, 1);
  const auto learner = make_learner({.kind = "softmax", .epochs = 5});
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "tessera_distributed_test";
  std::filesystem::remove_all(folder);
  Ranks alone;
  std::vector<size_t> done;
  const FitOptions options{.folder = folder, .seed = 4, .done = [&](size_t j) { done.push_back(j); }};
  const Answers ours = ask(fit_distributed(alone, train, design, *learner, options), train.values, train.rows);
  const Answers wanted = ask(fit_experts(train, design, *learner, {.seed = 4}), train.values, train.rows);
  EXPECT_EQ(ours.probabilities, wanted.probabilities);
  EXPECT_THAT(done, testing::ElementsAre(0, 1, 2));
  std::filesystem::remove_all(folder);
}

TEST(Learner, ShiftAndMirrorNeedImagesAndKeepTheSeed) {
  Dataset images{.rows = 40, .features = 16, .channels = 1, .height = 4, .width = 4};
  images.classes = {"left", "top"};
  Random random(1);
  for (int64_t i = 0; i < images.rows; ++i) {
    images.labels.push_back(static_cast<int32_t>(i % 2));
    for (int k = 0; k < 16; ++k) {
      const bool bright = i % 2 == 0 ? k % 4 < 2 : k < 8;
      images.values.push_back(static_cast<float>((bright ? 0.8 : 0.0) + 0.1 * random.uniform()));
    }
  }
  const auto varied = make_learner({.kind = "softmax", .epochs = 20, .shift = 1, .mirror = true});
  const auto plain = make_learner({.kind = "softmax", .epochs = 20});
  EXPECT_EQ(varied->fit(images, 3)->save(), varied->fit(images, 3)->save());
  EXPECT_NE(varied->fit(images, 3)->save(), plain->fit(images, 3)->save());
  images.channels = images.height = images.width = 0;
  EXPECT_THAT(message_of([&] { varied->fit(images, 3); }), testing::HasSubstr("expected images"));
  EXPECT_THROW(make_learner({.shift = 17}), Error);
}

}  // namespace
}  // namespace tessera::experts
