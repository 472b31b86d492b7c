// The nearest rows against a sort of all rows, whatever the index: in memory, from a file, with trees or without.
#include "explain/row_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "tessera/base/error.h"
#include "tessera/base/file.h"
#include "tessera/base/random.h"

namespace tessera::explain {
namespace {

const std::vector<Feature> kFeatures = {{"x", ColumnKind::continuous, {}, {}, {}},
                                        {"y", ColumnKind::continuous, {}, {}, {}},
                                        {"c", ColumnKind::categorical, {"0", "1"}, {}, {}}};

// Normal x, y with many ties, a rare second category; stored with one more column in between.
struct Data {
  std::vector<double> table;
  std::vector<int64_t> picked = {0, 2, 3};
  TableView view;
  explicit Data(int64_t rows, uint64_t seed = 4) {
    Random random(seed);
    for (int64_t i = 0; i < rows; ++i) {
      table.push_back(random.normal());
      table.push_back(-1e9);
      table.push_back(std::floor(4 * random.uniform()));
      table.push_back(static_cast<double>(random.below(20) == 0));
    }
    view = {table.data(), nullptr, rows, 3, 4, picked.data()};
  }
  std::vector<double> row(int64_t i) const { return {view.at(i, 0), view.at(i, 1), view.at(i, 2)}; }
};

std::vector<Neighbour> by_sort(const TableView& view, const std::vector<double>& query, const Metric& metric) {
  std::vector<Neighbour> all;
  for (int64_t i = 0; i < view.rows; ++i) {
    double d = 0;
    for (int64_t j = 0; j < 2; ++j) {
      const double difference = view.at(i, j) - query[static_cast<size_t>(j)];
      d += metric.weight[static_cast<size_t>(j)] * difference * difference;
    }
    if (view.at(i, 2) != query[2]) d += metric.penalty[0];
    if (std::isfinite(d)) all.push_back({d, i});
  }
  std::sort(all.begin(), all.end(), [](const Neighbour& a, const Neighbour& b) {
    return a.distance2 != b.distance2 ? a.distance2 < b.distance2 : a.row < b.row;
  });
  return all;
}

void expect_exact(const Data& data, const std::shared_ptr<const TableIndex>& index) {
  const RowSearch search(data.view, index);
  for (const double penalty : {0.0, 0.3, std::numeric_limits<double>::infinity()}) {
    const Metric metric{{2.0, 0.5}, {penalty}};
    for (int64_t q = 0; q < 20; ++q) {
      const std::vector<double> query = data.row(q * 97);
      const std::vector<Neighbour> expected = by_sort(data.view, query, metric);
      const auto found = search.nearest(query, metric, 50);
      ASSERT_EQ(found.size(), std::min<size_t>(50, expected.size()));
      for (size_t i = 0; i < found.size(); ++i) ASSERT_EQ(found[i].row, expected[i].row) << q << " " << i;
      const auto other = search.nearest(query, metric, 3, q * 97);
      for (const Neighbour& neighbour : other) ASSERT_NE(neighbour.row, q * 97);
    }
  }
}

TEST(RowSearch, FindsTheSameRowsAsASort) {
  const Data data(9000);
  for (const int64_t leaf : {1, 7, 64, 5000})
    expect_exact(data, TableIndex::build(data.view, kFeatures, {.leaf_rows = leaf}));
  expect_exact(data, TableIndex::build(data.view, kFeatures, {.tree_features = 0}));  // scans
}

TEST(RowSearch, TablesLargerThanOneSubtreeAreIndexedAlike) {
  const Data data(300000);
  expect_exact(data, TableIndex::build(data.view, kFeatures));
}

TEST(RowSearch, RepeatedRowsAndConstantColumnsDoNotHurt) {
  Data data(6000);
  for (int64_t i = 0; i < 5990; ++i) data.table[static_cast<size_t>(4 * i)] = 1;
  for (int64_t i = 0; i < 6000; ++i) data.table[static_cast<size_t>(4 * i + 2)] = 2;
  expect_exact(data, TableIndex::build(data.view, kFeatures, {.leaf_rows = 4}));
}

class IndexFile : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::path(::testing::TempDir()) /
            ("index-" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
  }
  void TearDown() override { std::filesystem::remove(path_); }
  std::filesystem::path path_;
};

TEST_F(IndexFile, AnswersLikeTheOneInMemory) {
  const Data data(9000);
  expect_exact(data, TableIndex::build(data.view, kFeatures, {.file = path_}));
  expect_exact(data, TableIndex::open(path_, data.view, kFeatures));
}

TEST_F(IndexFile, OfAnotherTableIsRefused) {
  const Data data(3000), other(3000, 5), shorter(2999);
  (void)TableIndex::build(data.view, kFeatures, {.file = path_});
  EXPECT_THROW((void)TableIndex::open(path_, other.view, kFeatures), Error);
  EXPECT_THROW((void)TableIndex::open(path_, shorter.view, kFeatures), Error);
  std::vector<Feature> renamed = kFeatures;
  renamed[0].name = "z";
  EXPECT_THROW((void)TableIndex::open(path_, data.view, renamed), Error);
}

// Every damaged byte gives a refusal or an answer, never anything else (the sanitizers watch).
TEST_F(IndexFile, DamageIsRefusedOrHarmless) {
  const Data data(2500);
  (void)TableIndex::build(data.view, kFeatures, {.file = path_});
  const std::string good = read_file(path_);
  EXPECT_THROW((write_file_atomically(path_, good.substr(0, good.size() - 1)),
                (void)TableIndex::open(path_, data.view, kFeatures)),
               Error);
  Random random(1);
  int refused = 0;
  for (int k = 0; k < 200; ++k) {
    std::string bad = good;
    const size_t tail = 4096 + 2500 * 8;  // row numbers, nodes and the rest
    const size_t at = k < 40 ? static_cast<size_t>(random.below(64))
                             : tail + static_cast<size_t>(random.below(static_cast<int64_t>(good.size() - tail)));
    bad[at] = static_cast<char>(bad[at] ^ (1 << random.below(8)));
    write_file_atomically(path_, bad);
    try {
      const RowSearch search(data.view, TableIndex::open(path_, data.view, kFeatures));
      (void)search.nearest(data.row(k), {{1, 1}, {0.5}}, 2000);
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 40);
}

TEST_F(IndexFile, IsNotLeftHalfWritten) {
  Data data(3000);
  const auto folder = std::filesystem::path(::testing::TempDir()) / "index-half-written";
  std::filesystem::create_directories(folder);
  data.table[4 * 2000] = std::nan("");
  EXPECT_THROW((void)TableIndex::build(data.view, kFeatures, {.file = folder / "a.index"}), Error);
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  EXPECT_THROW((void)TableIndex::build(Data(3000).view, kFeatures, {.file = folder / "no" / "a.index"}), Error);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace tessera::explain
