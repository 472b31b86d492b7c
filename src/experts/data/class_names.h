// Numbers the classes of a text format.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tessera::experts {

// Fills data.labels and data.classes from the text of each row's label; rows[i] is the line of row i. Classes keep the
// given order, or are sorted by value when all are whole numbers and by text otherwise. Throws Error(bad_file) for a
// label that is empty or not among given classes, Error(limit_exceeded) for over 100,000.
void number_classes(const std::vector<std::string>& texts, const std::vector<int64_t>& lines, std::string_view name,
                    std::vector<std::string>& classes, std::vector<int32_t>& labels);

}  // namespace tessera::experts
