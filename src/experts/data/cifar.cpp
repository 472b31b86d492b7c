#include <algorithm>

#include "tessera/base/error.h"
#include "tessera/experts/dataset.h"

namespace tessera::experts {

Dataset parse_cifar(std::string_view records, std::string_view name) {
  constexpr size_t kPixels = 3072;
  // A length that both record sizes divide is CIFAR-10 only when every first byte is a class of it.
  const bool ten = [&] {
    if (records.size() % (kPixels + 1) != 0) return false;
    for (size_t at = 0; at < records.size(); at += kPixels + 1) {
      if (static_cast<unsigned char>(records[at]) > 9) return false;
    }
    return true;
  }();
  const size_t label_bytes = ten ? 1 : 2;
  const size_t record = kPixels + label_bytes;
  if (records.empty() || records.size() % record != 0) {
    throw Error(ErrorCode::bad_file,
                "{}: expected CIFAR records of 3073 or 3074 bytes with classes 0..9 or 0..99, found {} bytes", name,
                records.size());
  }
  Dataset data{.features = static_cast<int64_t>(kPixels), .channels = 3, .height = 32, .width = 32};
  for (int k = 0; k < (ten ? 10 : 100); ++k) data.classes.push_back(std::to_string(k));
  data.values.reserve(records.size());
  for (size_t at = 0; at < records.size(); at += record, ++data.rows) {
    const int32_t label = static_cast<unsigned char>(records[at + label_bytes - 1]);
    if (label >= static_cast<int32_t>(data.classes.size())) {
      throw Error(ErrorCode::bad_file, "{}: record {}: the class {} is not in 0..{}", name, data.rows, label,
                  data.classes.size() - 1);
    }
    data.labels.push_back(label);
    for (const char c : records.substr(at + label_bytes, kPixels)) {
      data.values.push_back(static_cast<float>(static_cast<unsigned char>(c)) / 255.0F);
    }
  }
  return data;
}

}  // namespace tessera::experts
