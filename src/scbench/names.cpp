// The names of the options on the command line and in files.
#include <array>
#include <string>

#include "tessera/base/error.h"
#include "tessera/scbench/bench.h"

namespace tessera::scbench {
namespace {

template <typename T>
struct Named {
  T value;
  const char* name;
};

constexpr std::array<Named<Mode>, 2> kModes = {
    {{Mode::multi_turn, "multi-turn"}, {Mode::multi_request, "multi-request"}}};
constexpr std::array<Named<History>, 2> kHistories = {{{History::golden, "golden"}, {History::generated, "generated"}}};
constexpr std::array<Named<Vocabulary>, 2> kVocabularies = {{{Vocabulary::words, "words"}, {Vocabulary::uuid, "uuid"}}};
constexpr std::array<Named<Scoring>, 2> kScorings = {{{Scoring::intended, "intended"}, {Scoring::compat, "compat"}}};

template <typename T, size_t n>
const char* name_of(const std::array<Named<T>, n>& names, T value) {
  for (const Named<T>& named : names) {
    if (named.value == value) return named.name;
  }
  TESSERA_ASSERT(false);
}

template <typename T, size_t n>
T parse(const std::array<Named<T>, n>& names, const char* what, std::string_view text) {
  std::string known;
  for (const Named<T>& named : names) {
    if (text == named.name) return named.value;
    known += std::string(known.empty() ? "" : ", ") + named.name;
  }
  throw Error(ErrorCode::invalid_argument, "unknown {} '{}'; expected one of {}", what, text, known);
}

}  // namespace

const char* to_string(Mode mode) { return name_of(kModes, mode); }
const char* to_string(History history) { return name_of(kHistories, history); }
const char* to_string(Vocabulary vocabulary) { return name_of(kVocabularies, vocabulary); }
const char* to_string(Scoring scoring) { return name_of(kScorings, scoring); }
Mode parse_mode(std::string_view name) { return parse(kModes, "mode", name); }
History parse_history(std::string_view name) { return parse(kHistories, "history", name); }
Vocabulary parse_vocabulary(std::string_view name) { return parse(kVocabularies, "vocabulary", name); }
Scoring parse_scoring(std::string_view name) { return parse(kScorings, "scoring", name); }

}  // namespace tessera::scbench
