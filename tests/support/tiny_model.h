// Writes a tiny random Llama in Hugging Face layout, for tests of the floors above model/: 2 layers, width 64, 4 query and 2
// KV heads of 32 channels, a byte-level tokenizer of 256 bytes and 2 special tokens, 4,096 tokens of context.
//
//   const std::filesystem::path folder = testing::write_tiny_model(seed);
#pragma once

#include <cstdint>
#include <filesystem>

namespace tessera::testing {

// The folder lies under the test's temporary directory; writing the same seed twice gives the same files.
std::filesystem::path write_tiny_model(uint64_t seed);

}  // namespace tessera::testing
