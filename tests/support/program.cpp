#include "support/program.h"

#include <sys/wait.h>

#include <array>
#include <cstdio>

#include "tessera/base/file.h"

namespace tessera::testing {

Outcome run_program(const std::string& program, const std::string& arguments, const std::filesystem::path& errors) {
  const std::string command = program + " " + arguments + " 2>" + errors.string() + " </dev/null";
  Outcome outcome;
  FILE* pipe = popen(command.c_str(), "r");
  std::array<char, 4096> buffer = {};
  for (size_t got = 0; (got = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
    outcome.out.append(buffer.data(), got);
  const int status = pclose(pipe);
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.err = read_file(errors);
  return outcome;
}

}  // namespace tessera::testing
