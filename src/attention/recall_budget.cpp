#include "attention/recall_budget.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <queue>

#include "attention/probe.h"
#include "attention/selector_support.h"

namespace tessera::attention {
namespace {

constexpr int64_t kMassBytes = int64_t{256} << 20;  // of the masses held at a time, unless one KV head needs more

constexpr int64_t kTilesForDenseEnd = 32;  // fewer query tiles would make a dense last one a large share

using GroupFlags = std::array<bool, kProbeGroups>;

// Items poorer than this share of dense attention's average mass per tile are never worth taking: five percent of the
// mass in such items would cost as much as all of dense attention.
constexpr double kPoorestItem = 0.05;

// Greedy choice on the mass of the `train` groups; reports the mass covered in the `test` groups.
class Greedy {
 public:
  Greedy(const GroupMass& mass, const ItemCosts& costs, const GroupFlags& train, const GroupFlags& test)
      : mass_(mass), costs_(costs), train_(train), test_(test), band_taken_(costs.band.size()) {
    const size_t tiles = costs.column.size();
    rest_.resize(tiles);
    for (size_t row = 0; row < mass.columns.size(); ++row) {
      for (size_t g = 0; g < mass.groups; ++g) rest_[row / kTileRows][g] += mass.columns[row][g];
    }
    for (size_t g = 0; g < mass.groups; ++g) {
      if (train[g]) newest_train_tile_ = std::max(newest_train_tile_, mass.own_tile[g]);
      if (train[g]) train_mass_ += static_cast<double>(mass.rows[g]);
    }
    for (size_t g = 0; g < mass.groups; ++g) {
      if (!test[g]) continue;
      for (size_t tile = 0; tile < tiles; ++tile) {
        if (is_judged(tile)) test_mass_ += rest_[tile][g];
      }
    }
  }

  void force(const RecallTarget& target) {
    for (size_t e = 0; e < std::min<size_t>(static_cast<size_t>(target.forced_bands), band_taken_.size()); ++e)
      take_band(e);
    const auto columns = std::min<size_t>(static_cast<size_t>(target.forced_columns), mass_.columns.size());
    forced_columns_ = columns;
    for (size_t j = 0; j < columns; ++j) take_column(j);
  }

  // Takes items until the test mass reaches `recall` and the cost `least_cost`. False when it stopped before because
  // the cost passed `most_cost` or no item was left.
  bool run(double recall, double least_cost, double most_cost) {
    fill_queue();
    while (this->recall() < recall || cost_ < least_cost) {
      if (cost_ > most_cost) return false;
      if (queue_.empty()) return this->recall() >= recall;
      const Item top = queue_.top();
      queue_.pop();
      const double value = value_of(top.index);
      if (value < top.value && !queue_.empty() && Item{value, top.index} < queue_.top()) {
        if (value >= poorest_) queue_.push({value, top.index});
        continue;
      }
      take(top.index);
    }
    return cost_ <= most_cost;
  }

  double cost() const { return cost_; }
  double recall() const { return test_mass_ > 0 ? covered_ / test_mass_ : 1; }

  RecallChoice result() const {
    RecallChoice choice;
    for (size_t e = 0; e < band_taken_.size(); ++e) {
      if (band_taken_[e]) choice.bands.push_back(static_cast<int32_t>(e));
    }
    choice.columns = columns_;
    std::sort(choice.columns.begin(), choice.columns.end());
    choice.cost = cost_;
    choice.recall = recall();
    return choice;
  }

 private:
  // Items 0 .. bands - 1 are bands, the others columns.
  struct Item {
    double value;  // new training mass per cost when it was computed; never grows
    size_t index;
    bool operator<(const Item& other) const { return value != other.value ? value < other.value : index > other.index; }
  };

  // Columns newer than every row that chooses cannot be chosen, so their mass counts only where a band holds it.
  bool is_judged(size_t tile) const { return static_cast<int64_t>(tile) <= newest_train_tile_; }

  bool is_covered(size_t group, size_t tile) const {
    const int64_t band = mass_.own_tile[group] - static_cast<int64_t>(tile);
    return band >= 0 && band_taken_[static_cast<size_t>(band)];
  }

  // Mass that the choosing rows give a column, but for the row that likes it best.
  double column_gain(size_t row) const {
    double gain = 0;
    double best = 0;
    for (size_t g = 0; g < mass_.groups; ++g) {
      if (!train_[g] || is_covered(g, row / kTileRows)) continue;
      gain += mass_.columns[row][g];
      best = std::max<double>(best, mass_.tops[row][g]);
    }
    return gain - best;
  }

  double band_gain(size_t band, const GroupFlags& groups) const {
    double gain = 0;
    for (size_t g = 0; g < mass_.groups; ++g) {
      const int64_t tile = mass_.own_tile[g] - static_cast<int64_t>(band);
      if (groups[g] && tile >= 0) gain += std::max(0.0F, rest_[static_cast<size_t>(tile)][g]);
    }
    return gain;
  }

  double value_of(size_t index) const {
    if (index < band_taken_.size()) return band_gain(index, train_) / costs_.band[index];
    const size_t row = index - band_taken_.size();
    return column_gain(row) / costs_.column[row / kTileRows];
  }

  void fill_queue() {
    poorest_ = kPoorestItem * train_mass_ / costs_.dense;
    std::vector<Item> items;
    for (size_t e = 0; e < band_taken_.size(); ++e) {
      if (!band_taken_[e] && costs_.band[e] > 0) items.push_back({value_of(e), e});
    }
    for (size_t row = forced_columns_; row < mass_.columns.size(); ++row) {
      if (costs_.column[row / kTileRows] > 0)
        items.push_back({value_of(band_taken_.size() + row), band_taken_.size() + row});
    }
    std::erase_if(items, [&](const Item& item) { return item.value < poorest_ || item.value <= 0; });
    queue_ = std::priority_queue<Item>(std::less<Item>(), std::move(items));
  }

  void take(size_t index) {
    if (index < band_taken_.size()) {
      take_band(index);
    } else {
      take_column(index - band_taken_.size());
    }
  }

  void take_band(size_t band) {
    covered_ += band_gain(band, test_);
    for (size_t g = 0; g < mass_.groups; ++g) {
      const int64_t tile = mass_.own_tile[g] - static_cast<int64_t>(band);
      if (test_[g] && tile > newest_train_tile_) test_mass_ += rest_[static_cast<size_t>(tile)][g];
    }
    band_taken_[band] = true;
    cost_ += costs_.band[band];
  }

  void take_column(size_t row) {
    const size_t tile = row / kTileRows;
    for (size_t g = 0; g < mass_.groups; ++g) {
      if (test_[g] && is_judged(tile) && !is_covered(g, tile)) covered_ += mass_.columns[row][g];
      rest_[tile][g] -= mass_.columns[row][g];
    }
    columns_.push_back(static_cast<int32_t>(row));
    cost_ += costs_.column[tile];
  }

  const GroupMass& mass_;
  const ItemCosts& costs_;
  GroupFlags train_;
  GroupFlags test_;
  std::vector<bool> band_taken_;
  std::vector<std::array<float, kProbeGroups>> rest_;  // [key tiles] mass by group that no chosen column holds
  std::vector<int32_t> columns_;
  std::priority_queue<Item> queue_;
  size_t forced_columns_ = 0;
  double poorest_ = 0;
  int64_t newest_train_tile_ = 0;
  double train_mass_ = 0;
  double test_mass_ = 0;
  double covered_ = 0;
  double cost_ = 0;
};

// The probe rows of a block: groups of rows from query tiles spread over it, the last one included.
struct ProbePlan {
  std::vector<int64_t> rows;        // lane i belongs to group i % groups
  std::vector<int64_t> query_tile;  // [groups]

  explicit ProbePlan(int64_t query_rows) {
    const int64_t tiles = (query_rows + kTileRows - 1) / kTileRows;
    const int64_t groups = std::min<int64_t>(tiles, kProbeGroups);
    for (int64_t g = 0; g < groups; ++g) query_tile.push_back((g + 1) * tiles / groups - 1);
    constexpr int64_t kRows = kBlockLanes / static_cast<int64_t>(kProbeGroups);
    for (int64_t i = 0; i < kRows; ++i) {
      for (const int64_t tile : query_tile) {
        const int64_t tile_rows = std::min<int64_t>(kTileRows, query_rows - tile * kTileRows);
        rows.push_back(tile * kTileRows + (2 * i + 1) * tile_rows / (2 * kRows));
      }
    }
  }
};

// Some KV heads at a time.
struct HeadRange {
  int64_t first;  // KV head
  int64_t count;
};

// [count * group] masses of the query heads of some KV heads.
std::vector<GroupMass> measure(const AttentionInput& input, const ProbePlan& plan, const HeadRange& range,
                               ThreadPool& pool) {
  const int64_t group = input.queries.shape()[1] / static_cast<int64_t>(input.heads.size());
  const size_t groups = plan.query_tile.size();
  std::vector<GroupMass> masses;
  for (int64_t h = 0; h < range.count; ++h) {
    const HeadGeometry geometry(input, input.heads[static_cast<size_t>(range.first + h)]);
    GroupMass empty;
    empty.groups = groups;
    empty.columns.resize(static_cast<size_t>(geometry.key_rows));
    empty.tops.resize(static_cast<size_t>(geometry.key_rows));
    for (size_t g = 0; g < groups; ++g) {
      empty.rows[g] = static_cast<int64_t>(plan.rows.size() / groups);
      empty.own_tile[g] = std::max<int64_t>(0, geometry.visible_tiles(plan.query_tile[g]) - 1);
    }
    masses.insert(masses.end(), static_cast<size_t>(group), empty);
  }
  const ProbeRows what{.rows = plan.rows, .first_kv_head = range.first, .kv_heads = range.count};
  probe(input, what, pool, [&](const ProbeTile& at) {
    GroupMass& mass = masses[static_cast<size_t>(at.head - range.first * group)];
    for (int k = 0; k < at.count; ++k) {
      const float* weights = at.weights + k * kScoreStride;
      std::array<float, kProbeGroups> sum = {};
      std::array<float, kProbeGroups> top = {};
      for (size_t lane = 0; lane < plan.rows.size(); lane += groups) {
        for (size_t g = 0; g < groups; ++g) {
          sum[g] += weights[lane + g];
          top[g] = std::max(top[g], weights[lane + g]);
        }
      }
      mass.columns[static_cast<size_t>(at.tile * kTileRows + k)] = sum;
      mass.tops[static_cast<size_t>(at.tile * kTileRows + k)] = top;
    }
  });
  return masses;
}

ItemCosts item_costs(const HeadGeometry& geometry) {
  ItemCosts costs;
  costs.column.resize(static_cast<size_t>(geometry.key_tiles()));
  costs.band.resize(static_cast<size_t>(geometry.key_tiles()));
  for (int64_t tile = 0; tile < geometry.query_tiles(); ++tile) {
    const int64_t visible = geometry.visible_tiles(tile);
    costs.dense += static_cast<double>(visible);
    // Counts now; turned into sums from the end below. Key tile j is seen by the query tiles that see more than j
    // tiles.
    if (visible > 0) costs.column[static_cast<size_t>(visible - 1)] += 1;
  }
  for (int64_t j = geometry.key_tiles() - 2; j >= 0; --j)
    costs.column[static_cast<size_t>(j)] += costs.column[static_cast<size_t>(j) + 1];
  costs.band = costs.column;  // a query tile has band e when it sees more than e tiles
  for (double& cost : costs.column) cost /= kTileRows;
  return costs;
}

// dense_end: whether the last query tile is computed densely.
HeadWork write_choice(const RecallChoice& choice, const HeadGeometry& geometry, bool dense_end) {
  HeadWork head;
  if (choice.dense) {
    head.dense = true;
    return head;
  }
  TileWriter writer(head);
  for (int64_t tile = 0; tile < geometry.query_tiles(); ++tile) {
    const int64_t own = geometry.visible_tiles(tile) - 1;
    if (dense_end && tile == geometry.query_tiles() - 1) {
      writer.add(0, own);
    } else {
      for (auto band = choice.bands.rbegin(); band != choice.bands.rend(); ++band) {
        if (*band <= own) writer.add(own - *band, own - *band);
      }
    }
    writer.end_query_tile();
  }
  set_columns(head, choice.columns, geometry);
  return head;
}

// Bands that hold the own rows of some query tile.
int64_t own_bands(const HeadGeometry& geometry) {
  int64_t bands = 1;
  for (int64_t tile = 0; tile < geometry.query_tiles(); ++tile) {
    const int64_t first = std::max<int64_t>(0, geometry.first_own(tile)) / kTileRows;
    bands = std::max(bands, geometry.visible_tiles(tile) - first);
  }
  return bands;
}

}  // namespace

RecallChoice choose_by_recall(const GroupMass& mass, const ItemCosts& costs, const RecallTarget& target) {
  const double most_cost = target.dense_share * costs.dense;
  RecallChoice dense;
  dense.dense = true;
  dense.cost = costs.dense;
  dense.recall = 1;

  if (target.recall >= 1) return dense;
  GroupFlags all = {};
  std::fill_n(all.begin(), mass.groups, true);
  double least_cost = 0;
  if (mass.groups >= 2) {
    for (const size_t parity : {0U, 1U}) {
      GroupFlags train = {};
      GroupFlags test = {};
      for (size_t g = 0; g < mass.groups; ++g) (g % 2 == parity ? train : test)[g] = true;
      Greedy greedy(mass, costs, train, test);
      greedy.force(target);
      if (!greedy.run(target.recall, 0, most_cost)) return dense;
      least_cost = std::max(least_cost, greedy.cost());
    }
  }
  Greedy greedy(mass, costs, all, all);
  greedy.force(target);
  return greedy.run(target.recall, least_cost, most_cost) ? greedy.result() : dense;
}

WorkList select_by_recall(const AttentionInput& input, const VerticalSlashOptions& options,
                          const SelectContext& context) {
  ThreadPool& pool = pool_of(context);
  WorkList work = start_work_list(input);
  if (work.query_rows == 0) return work;
  const ProbePlan plan(work.query_rows);
  const bool dense_end = context.rows_after == 0 && work.query_tiles() >= kTilesForDenseEnd;
  const auto kv_heads = static_cast<int64_t>(input.heads.size());
  const auto group = static_cast<int64_t>(work.heads.size()) / kv_heads;
  // As many heads at a time as keep the masses within bounds.
  const int64_t head_bytes = group * work.key_rows * static_cast<int64_t>(2 * sizeof(std::array<float, kProbeGroups>));
  const int64_t batch = std::max<int64_t>(1, kMassBytes / std::max<int64_t>(1, head_bytes));
  for (int64_t first = 0; first < kv_heads; first += batch) {
    const HeadRange range{first, std::min(batch, kv_heads - first)};
    const std::vector<GroupMass> masses = measure(input, plan, range, pool);
    pool.parallel_for(0, static_cast<int64_t>(masses.size()), 1, [&](int64_t h, int64_t, int) {
      const HeadGeometry geometry(input, input.heads[static_cast<size_t>(first + h / group)]);
      const RecallTarget target{
          .recall = options.recall, .forced_bands = own_bands(geometry), .forced_columns = options.sinks};
      const RecallChoice choice = choose_by_recall(masses[static_cast<size_t>(h)], item_costs(geometry), target);
      work.heads[static_cast<size_t>(first * group + h)] = write_choice(choice, geometry, dense_end);
    });
  }
  return work;
}

}  // namespace tessera::attention
