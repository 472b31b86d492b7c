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

// Whether a first line is a row of numbers, not of names: all fields are numbers, and not the 0, 1, 2, ... or
// 1, 2, 3, ... by which programs name columns.
bool holds_values(const std::vector<std::string>& first_line);

// The first line becomes row 1; columns are then named by their number.
void header_to_row(CsvTable& table);

// A finite number, or Error(bad_file) naming row and column.
float csv_number(const std::string& text, std::string_view name, int64_t line, const std::string& column);

// All columns as numbers, from either format.
Matrix parse_matrix(std::string_view bytes, std::string_view name);

}  // namespace tessera::experts
