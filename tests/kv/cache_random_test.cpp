// Random sequences of operations on a family of caches and views, each compared with plain vectors of rows.
#include <set>

#include "kv/kv_support.h"

namespace tessera::kv {
namespace {

using attention::TileFormat;

constexpr int kLayers = 2;
constexpr int kHeads = 2;
constexpr int64_t kHeadDim = 32;

struct Plain {
  std::vector<std::vector<Row>> heads = std::vector<std::vector<Row>>(kLayers * kHeads);
  int64_t next_position = 0;

  std::vector<Row>& head(int layer, int head) { return heads[static_cast<size_t>(layer * kHeads + head)]; }
};

struct Pair {
  KeyValueCache cache;
  Plain plain;
};

struct PinnedView {
  LayerView view;
  std::vector<std::vector<Row>> rows;  // [heads]
};

class Family {
 public:
  Family(uint64_t seed, TileFormat format) : random_(seed), format_(format), pool_(std::make_shared<PagePool>()) {
    pairs_.push_back({KeyValueCache({kLayers, kHeads, kHeadDim, format}, pool_), {}});
  }

  void step() {
    Pair& pair = pairs_[static_cast<size_t>(random_.below(std::ssize(pairs_)))];
    switch (random_.below(12)) {
      case 0:
        return fork(pair);
      case 1:
        return truncate(pair);
      case 2:
      case 3:
        return keep(pair);
      case 4:
        return encode(pair);
      case 5:
        return pin(pair);
      case 6:
        if (!views_.empty()) views_.erase(views_.begin() + random_.below(std::ssize(views_)));
        return;
      case 7:
        if (pairs_.size() > 1) pairs_.erase(pairs_.begin() + random_.below(std::ssize(pairs_)));
        return;
      default:
        return append(pair);
    }
  }

  void verify() {
    for (Pair& pair : pairs_) verify(pair);
    for (const PinnedView& pinned : views_) {
      for (size_t h = 0; h < pinned.rows.size(); ++h) {
        ASSERT_EQ(rows_of(pinned.view.heads[h], kHeadDim), pinned.rows[h]) << "a pinned view changed";
      }
    }
    verify_bytes();
  }

  void clear() {
    pairs_.clear();
    views_.clear();
    EXPECT_EQ(pool_->bytes_in_use(), 0);
    EXPECT_GT(pool_->peak_bytes(), 0);
  }

 private:
  void append(Pair& pair) {
    const int64_t count = random_.below(4) == 0 ? random_.below(150) : 1 + random_.below(3);
    const int64_t first = pair.plain.next_position + (random_.below(8) == 0 ? random_.below(5) : 0);
    for (int layer = 0; layer < kLayers; ++layer) {
      const Tensor keys = exact_rows(random_, count, kHeads, kHeadDim);
      const Tensor values = exact_rows(random_, count, kHeads, kHeadDim);
      pair.cache.append(layer, keys, values, first);
      for (int64_t i = 0; i < count * kHeads; ++i) {
        const float* key = keys.data<float>() + i * kHeadDim;
        const float* value = values.data<float>() + i * kHeadDim;
        pair.plain.head(layer, static_cast<int>(i % kHeads))
            .push_back({first + i / kHeads, {key, key + kHeadDim}, {value, value + kHeadDim}});
      }
    }
    if (count > 0) pair.plain.next_position = first + count;
  }

  void fork(Pair& pair) {
    if (pairs_.size() < 5) pairs_.push_back({pair.cache.fork(), Plain(pair.plain)});
  }

  void truncate(Pair& pair) {
    const int64_t back = random_.below(3) == 0 ? random_.below(pair.plain.next_position + 1) : random_.below(80);
    const int64_t position = std::max<int64_t>(0, pair.plain.next_position - back);
    pair.cache.truncate(position);
    for (std::vector<Row>& head : pair.plain.heads) {
      std::erase_if(head, [&](const Row& row) { return row.position >= position; });
    }
    pair.plain.next_position = position;
  }

  void keep(Pair& pair) {
    const int layer = static_cast<int>(random_.below(kLayers));
    const int head = static_cast<int>(random_.below(kHeads));
    std::vector<Row>& rows = pair.plain.head(layer, head);
    const int64_t untouched = random_.below(std::ssize(rows) + 1);
    std::vector<int32_t> kept;
    std::vector<Row> left;
    for (int64_t row = 0; row < std::ssize(rows); ++row) {
      if (row >= untouched && random_.below(3) == 0) continue;
      kept.push_back(static_cast<int32_t>(row));
      left.push_back(rows[static_cast<size_t>(row)]);
    }
    pair.cache.keep_rows(layer, head, kept);
    rows = left;
  }

  // Values change here and nowhere else; only f32 caches, where a decoded row is kept exactly.
  void encode(Pair& pair) {
    const int layer = static_cast<int>(random_.below(kLayers));
    const int head = static_cast<int>(random_.below(kHeads));
    const int64_t full = pair.cache.rows(layer, head) / 64;
    if (full == 0 || format_ != TileFormat::f32) return;
    const int64_t last = 1 + random_.below(full);
    pair.cache.encode_pages(layer, head, random_.below(last), last, TileFormat::kivi4);
    const std::vector<Row> rows = rows_of(pair.cache.view(layer).heads[static_cast<size_t>(head)], kHeadDim);
    std::vector<Row>& plain = pair.plain.head(layer, head);
    for (size_t row = 0; row < plain.size(); ++row) {
      for (size_t c = 0; c < kHeadDim; ++c) {
        ASSERT_NEAR(rows[row].key[c], plain[row].key[c], 0.3) << "range 8 in 15 steps, half a step off";
        ASSERT_NEAR(rows[row].value[c], plain[row].value[c], 0.3);
      }
    }
    plain = rows;
  }

  void pin(Pair& pair) {
    if (views_.size() >= 4) return;
    const int layer = static_cast<int>(random_.below(kLayers));
    PinnedView pinned{pair.cache.view(layer), {}};
    for (int head = 0; head < kHeads; ++head) pinned.rows.push_back(pair.plain.head(layer, head));
    views_.push_back(std::move(pinned));
  }

  void verify(Pair& pair) {
    ASSERT_EQ(pair.cache.next_position(), pair.plain.next_position);
    for (int layer = 0; layer < kLayers; ++layer) {
      const LayerView view = pair.cache.view(layer);
      for (int head = 0; head < kHeads; ++head) {
        const attention::HeadKeys& keys = view.heads[static_cast<size_t>(head)];
        const std::vector<Row> found = rows_of(keys, kHeadDim);
        ASSERT_EQ(found, pair.plain.head(layer, head));
        ASSERT_EQ(std::ssize(keys.tiles), (keys.rows + 63) / 64);
        for (int64_t t = 0; t < std::ssize(keys.tiles); ++t) {
          ASSERT_EQ(keys.tiles[static_cast<size_t>(t)].rows, std::min<int64_t>(64, keys.rows - t * 64));
        }
        verify_stamps(found, pair.cache.pages(layer, head));
      }
    }
  }

  // Under one stamp a row never changes.
  void verify_stamps(const std::vector<Row>& rows, std::span<const PageRef> pages) {
    for (size_t row = 0; row < rows.size(); ++row) {
      Row content = rows[row];
      content.position = 0;
      const auto known = contents_.try_emplace({pages[row / 64].stamp(), row % 64}, content).first;
      ASSERT_EQ(known->second, content);
    }
  }

  // The pool's bytes are those of the distinct pages that caches and views hold.
  void verify_bytes() {
    std::map<const std::byte*, std::multiset<const void*>> holders;
    std::map<const std::byte*, int64_t> sizes;
    const auto hold = [&](const PageRef& page, const void* holder) {
      holders[page.data()].insert(holder);
      sizes[page.data()] = page.bytes();
    };
    for (const Pair& pair : pairs_) {
      for (int i = 0; i < kLayers * kHeads; ++i) {
        for (const PageRef& page : pair.cache.pages(i / kHeads, i % kHeads)) hold(page, &pair);
      }
    }
    for (const PinnedView& pinned : views_) {
      for (const auto& table : pinned.view.tables) {
        for (const PageRef& page : table->pages) hold(page, &pinned);
      }
    }
    int64_t total = 0;
    std::map<const void*, int64_t> alone;
    for (const auto& [page, who] : holders) {
      total += sizes[page];
      if (who.size() == 1) alone[*who.begin()] += sizes[page];
    }
    ASSERT_EQ(pool_->bytes_in_use(), total);
    for (const Pair& pair : pairs_) ASSERT_EQ(pair.cache.unshared_bytes(), alone[&pair]);
  }

  Random random_;
  TileFormat format_;
  std::shared_ptr<PagePool> pool_;
  std::vector<Pair> pairs_;
  std::vector<PinnedView> views_;
  std::map<std::pair<uint64_t, size_t>, Row> contents_;
};

class RandomOperations : public testing::TestWithParam<TileFormat> {};

TEST_P(RandomOperations, AgreeWithPlainRows) {
  for (uint64_t seed = 0; seed < 6; ++seed) {
    Family family(seed, GetParam());
    for (int step = 0; step < 120; ++step) {
      family.step();
      if (step % 3 == 0) family.verify();
      if (HasFatalFailure()) FAIL() << "seed " << seed << ", step " << step;
    }
    family.clear();
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, RandomOperations, testing::Values(TileFormat::f32, TileFormat::bf16, TileFormat::f16),
                         [](const auto& tested) { return std::string(attention::to_string(tested.param)); });

}  // namespace
}  // namespace tessera::kv
