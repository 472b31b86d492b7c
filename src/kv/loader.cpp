#include "tessera/kv/policy.h"

namespace tessera::kv {

attention::AttentionPartial Loader::attend(int layer, const attention::AttentionInput& input, const LayerView& view,
                                           const attention::AttentionOptions& options) {
  return attention::attend(input, select(layer, input, view, options), options);
}

}  // namespace tessera::kv
