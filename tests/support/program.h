// The program, run as its users run it.
//
//   const Outcome outcome = run_program(TESSERA_PROGRAM, "models list --json", folder / "stderr");
#pragma once

#include <filesystem>
#include <string>

namespace tessera::testing {

struct Outcome {
  int status = -1;  // exit status; 128 + the signal's number when one ended it
  std::string out;
  std::string err;
};

// `program`: path of the executable; `arguments`: as typed in a shell; standard input is empty. What the program
// writes to standard error passes through the file `errors`.
Outcome run_program(const std::string& program, const std::string& arguments, const std::filesystem::path& errors);

}  // namespace tessera::testing
