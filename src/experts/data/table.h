// A table of text or numbers, from CSV or NPY, before anyone knows what its columns mean.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/experts/dataset.h"

namespace tessera::experts {

struct CsvTable {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;  // each as long as the header
  std::vector<int64_t> lines;                  // of each row in the file
};

bool is_npy(std::string_view bytes);

// Throws Error(bad_file) for a ragged row or no header.
CsvTable parse_csv_table(std::string_view text, std::string_view name);

// A finite number, or Error(bad_file) naming row and column.
float csv_number(const std::string& text, std::string_view name, int64_t line, const std::string& column);

// All columns as numbers, from either format.
Matrix parse_matrix(std::string_view bytes, std::string_view name);

}  // namespace tessera::experts
