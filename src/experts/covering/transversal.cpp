#include "experts/covering/transversal.h"

#include <algorithm>

#include "experts/covering/galois_field.h"
#include "tessera/base/error.h"

namespace tessera::experts {
namespace {

std::vector<int> prime_powers(int m) {
  std::vector<int> powers;
  for (int p = 2; p <= m; ++p) {
    int power = 1;
    for (; m % p == 0; m /= p) power *= p;
    if (power > 1) powers.push_back(power);
  }
  return powers;
}

// Rows [m * m][groups]: the point of each group. Group g < q: x = g a + b; group q: a.
std::vector<std::vector<int>> field_rows(int groups, int q) {
  const GaloisField field(q);
  std::vector<std::vector<int>> rows;
  for (int a = 0; a < q; ++a) {
    for (int b = 0; b < q; ++b) {
      rows.emplace_back();
      for (int g = 0; g < groups; ++g) rows.back().push_back(g == q ? a : field.add(field.multiply(g, a), b));
    }
  }
  return rows;
}

std::vector<std::vector<int>> cyclic_rows(int groups, int m) {
  std::vector<std::vector<int>> rows;
  for (int a = 0; a < m; ++a) {
    for (int b = 0; b < m; ++b) {
      const std::vector<int> row = {a, b, (a + b) % m};
      rows.emplace_back(row.begin(), row.begin() + groups);
    }
  }
  return rows;
}

}  // namespace

int most_groups(int m) {
  if (m == 1) return kMaxClasses;
  const std::vector<int> powers = prime_powers(m);
  return std::max(3, *std::min_element(powers.begin(), powers.end()) + 1);
}

Design transversal_design(int groups, int m) {
  TESSERA_ASSERT(groups >= 2 && m >= 1 && groups <= most_groups(m));
  std::vector<std::vector<int>> rows = {std::vector<int>(static_cast<size_t>(groups), 0)};
  if (groups <= 3) {
    rows = cyclic_rows(groups, m);
  } else {
    for (const int q : prime_powers(m)) {
      std::vector<std::vector<int>> product;
      for (const std::vector<int>& factor : field_rows(groups, q)) {
        for (std::vector<int> row : rows) {
          for (size_t g = 0; g < row.size(); ++g) row[g] = row[g] * q + factor[g];
          product.push_back(std::move(row));
        }
      }
      rows = std::move(product);
    }
  }
  Design design{.classes = groups * m, .sets = std::move(rows)};
  for (std::vector<int>& set : design.sets) {
    for (int g = 0; g < groups; ++g) set[static_cast<size_t>(g)] += g * m;
  }
  return design;
}

}  // namespace tessera::experts
