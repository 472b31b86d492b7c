// Answers of any experts on disk, and the labels and probabilities that come out of them.
//
//   const DesignFile design = read_design("design.json");
//   const Answers answers = read_answers("answers.npy", design);
//   write_predictions("labels.csv", combine(design.design, answers), names);
//
// Formats by content: NumPy (two dimensions, C order) or CSV; a first line of CSV that holds answers itself, not names
// of columns (numbers other than 0, 1, 2, ... or 1, 2, 3, ...; class names), is the first row. One row per input. As
// many columns as there are places in the sets (sum_j R_j): probabilities, expert by expert, classes in the order of
// its set. As many columns as there are experts: hard labels, each a class number, or in CSV a class name of the
// design; -1, in CSV also an empty field, where an expert was not asked. When both numbers are equal (sets of one
// class): labels.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/experts/answers.h"
#include "tessera/experts/combine.h"
#include "tessera/experts/dataset.h"
#include "tessera/experts/design_file.h"

namespace tessera::experts {

// The design's class names, or "0", "1", ... where it has none.
std::vector<std::string> names_of(const DesignFile& design);

// Throws Error(not_found), Error(io), or Error(bad_file) naming file, row and column of the first fault: a ragged row,
// another number of columns, a value that is neither number nor class; and what check_answers refuses.
Answers read_answers(const std::filesystem::path& path, const DesignFile& design);
Answers parse_answers(std::string_view bytes, std::string_view name, const DesignFile& design);

// One weight in [0, 1] per input and expert, for Answers::gate: [inputs, experts]. Same formats and errors.
std::vector<float> read_gate(const std::filesystem::path& path, const Design& design, int64_t inputs);

// True classes, one per input: CSV with one column (with or without its name) or several of which "class", "label" or
// "y" is one; NPY with one column of class numbers. Throws as above when a class is unknown or there are not `inputs`
// rows.
std::vector<int32_t> read_truth(const std::filesystem::path& path, std::span<const std::string> classes,
                                int64_t inputs);

// CSV: columns "label" and one per class; NPY (name ends in .npy): the class number in column 0, then probabilities.
// Written under a temporary name and renamed.
void write_predictions(const std::filesystem::path& path, const Combination& result,
                       std::span<const std::string> classes);

// Probabilities, or labels where there are none, in the format that read_answers takes.
void write_answers(const std::filesystem::path& path, const Answers& answers, const DesignFile& design);

}  // namespace tessera::experts
