// Errors that a user, a file or the network can cause.
//
// Every such error is a tessera::Error: a code for programs and one sentence for people that says what was expected,
// what was found and what to do. The command line prints the sentence and exits 2 (1 for `internal`, `interrupted` and
// `io`). Our own mistakes are assertions (TESSERA_ASSERT), which no input can reach.
//
//   throw Error(ErrorCode::bad_file, "{}: expected magic 'GGUF', found '{}'; is this a GGUF file?", path, found);
#pragma once

// A build with nothing but a compiler (tools/gpu/) defines TESSERA_WITHOUT_FMT and passes finished messages.
#ifndef TESSERA_WITHOUT_FMT
#include <fmt/format.h>
#endif

#include <stdexcept>
#include <string>
#include <utility>

namespace tessera {

enum class ErrorCode {
  invalid_argument,  // a value given by the caller or on the command line is out of range or ill-formed
  bad_file,          // a file's content is damaged, truncated, hostile or of another format
  not_found,         // a file, a name or an entry does not exist
  unsupported,       // well-formed, but not something this build can do
  limit_exceeded,    // more than a stated limit, for example a prompt longer than the model's context
  io,                // the operating system refused to read, write or map
  interrupted,       // the user asked to stop
  internal,          // a mistake of this program
};

// The stable name of a code, for example "bad_file".
const char* to_string(ErrorCode code);

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}

#ifndef TESSERA_WITHOUT_FMT
  template <typename... Args>
  requires(sizeof...(Args) > 0) Error(ErrorCode code, fmt::format_string<Args...> format, Args&&... args)
      : std::runtime_error(fmt::format(format, std::forward<Args>(args)...)), code_(code) {}
#endif

  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);

}  // namespace tessera

// States an invariant of this program. Active in every build type; never used on input.
#define TESSERA_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : ::tessera::assertion_failed(#condition, __FILE__, __LINE__))
