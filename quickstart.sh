#!/usr/bin/env bash
# Sets everything up and runs the main job: six methods on five shared-context tasks with the bundled model, asked in both
# sharing modes. Prints a table with intervals and writes out/quickstart/report.html. A second run takes up where the
# first stopped. Options are handed to `tessera bench`, for example: ./quickstart.sh --length 8192
set -euo pipefail
cd "$(dirname "$0")"

scripts/install-dependencies
scripts/build release -DTESSERA_TESTS=OFF -DTESSERA_BENCH=OFF -- tessera

build/release/bin/tessera bench nano \
  --tasks "kv,prefix-suffix,vt,mf,many-shot" \
  --methods "dense; vertical-slash(vertical=500, slash=1500); tri-shape(sinks=64, window=960); a-shape(sinks=64, window=960); snapkv(capacity=256, window=32); streaming-llm(sinks=16, window=240)" \
  --modes multi-turn,multi-request \
  --length 4096 --turns 5 --examples 5 --seed 0 \
  --out out/quickstart --resume "$@"
