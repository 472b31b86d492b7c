#include "tessera/experts/design.h"

#include "tessera/base/error.h"

namespace tessera::experts {

void check_design(const Design& design) {
  if (design.classes < 1) {
    throw Error(ErrorCode::invalid_argument, "a design needs at least one class, found {}", design.classes);
  }
  for (size_t j = 0; j < design.sets.size(); ++j) {
    int previous = -1;
    for (const int item : design.sets[j]) {
      if (item <= previous || item >= design.classes) {
        throw Error(ErrorCode::invalid_argument,
                    "set {} of the design: expected ascending classes in 0..{}, found {} after {}", j,
                    design.classes - 1, item, previous);
      }
      previous = item;
    }
    if (previous < 0) throw Error(ErrorCode::invalid_argument, "set {} of the design holds no class", j);
  }
}

}  // namespace tessera::experts
