// Labelled data in memory, and readers of the formats classification data comes in.
//
//   const Dataset train = read_dataset("letter/train.csv", {});
//   const Dataset test = read_dataset("letter/test.csv", {.classes = train.classes});
//
// Formats, chosen by content or name:
//   CSV       first line names the columns; one column holds the class ("class", "label", "y", else the last), the
//             others numbers. Classes are numbered in order of value (whole numbers) or text.
//   NPY       FILE.npy: two dimensions of f4, f8, i4, i8, u1 or i1 in C order; the last column is the class number.
//   LIBSVM    text lines "label index:value ...", indices from 1, ascending; what is not named is 0.
//   IDX       the MNIST family: bytes 0 0, type 8 (unsigned byte), number of dimensions d, d big-endian 32-bit sizes,
//             data. PATH is the images file ("...-images-idx3-ubyte", plain or .gz); labels lie beside it in
//             "...-labels-idx1-ubyte".
//   CIFAR     binary records of 1 (CIFAR-10) or 2 (CIFAR-100: coarse, fine; fine is used) label bytes and 3072 bytes,
//             32 x 32 red, green, blue. PATH: one .bin file; several are joined with commas.
// Bytes of images become numbers in [0, 1].
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::experts {

struct Dataset {
  int64_t rows = 0;
  int64_t features = 0;
  std::vector<float> values;                // [rows, features]; images: [rows, channels, height, width]
  std::vector<int32_t> labels;              // [rows], each in [0, classes.size())
  std::vector<std::string> classes;         // names
  int channels = 0, height = 0, width = 0;  // images only, else 0
};

struct DatasetOptions {
  std::vector<std::string> classes = {};  // known classes, in order; empty: those found in the file
  std::string label_column = {};          // CSV; empty: see above
  int64_t features = 0;                   // LIBSVM: at least so many, where the last ones happen to be 0
};

// Throws Error(not_found), Error(io), or Error(bad_file) naming file, row and column of the first fault: a ragged row,
// a value that is no number, a wrong magic number, a size that does not match the file's length, an unknown class.
Dataset read_dataset(const std::filesystem::path& path, const DatasetOptions& options);

// Rows without a class: CSV or NPY of features only, IDX images without a labels file. rows, features and values (and
// the shape of images) are filled, labels and classes are empty. Throws as read_dataset.
Dataset read_unlabelled(const std::filesystem::path& path);

// The same from memory; `name` stands for the file in messages.
Dataset parse_csv_dataset(std::string_view text, std::string_view name, const DatasetOptions& options);
Dataset parse_libsvm(std::string_view text, std::string_view name, const DatasetOptions& options);
Dataset parse_idx(std::string_view images, std::string_view labels, std::string_view name);
Dataset parse_cifar(std::string_view records, std::string_view name);
Dataset parse_npy_dataset(std::string_view bytes, std::string_view name, const DatasetOptions& options);

// Inflates gzip; other bytes are returned as they are. At most `limit` bytes come out. Throws Error(bad_file).
std::string inflate(std::string_view bytes, std::string_view name, size_t limit = size_t{4} << 30);

// The rows whose class is in `classes` (ascending), labels renumbered to the position in it; image shape is kept.
Dataset restrict_to(const Dataset& data, std::span<const int> classes);

// Rows [begin, end).
Dataset slice_rows(const Dataset& data, int64_t begin, int64_t end);

// A row-major two-dimensional NumPy array as float32, and back (version 1.0, '<f4').
struct Matrix {
  int64_t rows = 0, columns = 0;
  std::vector<float> values;  // [rows, columns]
};
Matrix parse_npy(std::string_view bytes, std::string_view name);
std::string format_npy(const Matrix& matrix);

}  // namespace tessera::experts
