#!/usr/bin/env bash
# Builds, tests and measures CUDA attention on a machine with a GPU, nvcc and a python3 that has PyTorch; nothing else is needed.
#
#   tools/gpu/check.sh [--out DIR] [--stages build,units,attention,mma,lists,select,decode,sanitize,bench]
#                      [--lengths N,N,...] [--seconds S]
#
# Stages run in the given order. Every rung has its own time limit, so that a hang costs seconds; the first rung of `units` or
# `attention` that fails names the cause, and the later ones still run, so that one visit tells everything. A summary ends the
# output; DIR (default $OUT, else out/gpu) receives ladder.txt, build.txt and the JSON of the benchmarks. Exit status 1 when
# something failed.
set -uo pipefail
cd "$(dirname "$0")/../.."

out=${OUT:-out/gpu}
stages=build,units,attention,mma,lists,select,decode,sanitize,bench
lengths=8192,32768,131072
seconds=0.5
while [[ $# -gt 0 ]]; do
  case $1 in
    --out) out=$2 ;;
    --stages) stages=$2 ;;
    --lengths) lengths=$2 ;;
    --seconds) seconds=$2 ;;
    *) sed -n '2,11p' "$0"; exit 2 ;;
  esac
  shift 2
done
mkdir -p "$out"
out=$(cd "$out" && pwd)
build=build/gpu
summary=$out/ladder.txt
: >"$summary"
failures=0

nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
flags=(-std=c++20 -O3 --expt-relaxed-constexpr -DTESSERA_WITHOUT_FMT -Isrc -Iinclude -Itools -Xcompiler=-fPIC
  -gencode=arch=compute_90a,code=sm_90a)

say() { echo "$*" | tee -a "$summary"; }

# rung NAME LIMIT COMMAND...: runs it, keeps its output, counts a failure.
rung() {
  local name=$1 limit=$2 status=0 begin end text
  shift 2
  begin=$(date +%s)
  text=$(timeout -k 5 "$limit" "$@" 2>&1) || status=$?
  end=$(date +%s)
  if [[ $status -eq 0 ]]; then
    say "ok    $name ($((end - begin)) s)"
    echo "$text" | sed 's/^/        /' >>"$summary"
  else
    failures=$((failures + 1))
    local why="exit status $status"
    [[ $status -eq 124 || $status -eq 137 ]] && why="no end within $limit s: a hang"
    say "FAIL  $name: $why"
    echo "$text" | tail -n 40 | sed 's/^/        /' | tee -a "$summary"
  fi
  return 0
}

build_all() {
  mkdir -p "$build"
  local sources=(src/attention/cuda/*.cu src/attention/cuda/*.cpp src/base/error.cpp tools/gpu/ladder_units.cu
    tools/gpu/ladder_attention.cu tools/gpu/line_lists_check.cu tools/gpu/identity_check.cu tools/gpu/decode_check.cu)
  local source
  for source in "${sources[@]}"; do
    local object="$build/$(basename "$source").o"
    echo "$nvcc ${flags[*]} -Xptxas -v -c $source -o $object > $object.txt 2>&1 || { cat $object.txt; exit 255; }"
  done | xargs -P "$(nproc)" -I{} bash -c '{}' || return 1
  cat "$build"/*.o.txt >"$out/build.txt"
  grep -E 'C75[0-9]+' "$out/build.txt" | sort | uniq -c
  local library=()
  for source in src/attention/cuda/*.cu src/attention/cuda/*.cpp src/base/error.cpp; do
    library+=("$build/$(basename "$source").o")
  done
  "$nvcc" -shared "${library[@]}" -o "$build/libtessera_cuda.so" &&
    "$nvcc" "$build/ladder_units.cu.o" "${library[@]}" -o "$build/ladder_units" &&
    "$nvcc" "$build/ladder_attention.cu.o" "${library[@]}" -o "$build/ladder_attention" &&
    "$nvcc" "$build/identity_check.cu.o" "${library[@]}" -o "$build/identity_check" &&
    "$nvcc" "$build/line_lists_check.cu.o" "${library[@]}" -o "$build/line_lists_check" &&
    "$nvcc" "$build/decode_check.cu.o" "${library[@]}" -o "$build/decode_check"
}

stage_units() {
  local name
  for name in tma scores values registers pipeline turns; do rung "units $name" 20 "$build/ladder_units" $name; done
}
rungs=(tile dense dims half groups varlen offsets lists lists64 columns bands split empty)
stage_attention() {
  local name
  for name in "${rungs[@]}"; do rung "attention $name" 60 "$build/ladder_attention" "$name"; done
}
stage_mma() {
  local name
  for name in "${rungs[@]}"; do
    [[ $name == lists ]] || rung "mma.sync $name" 60 "$build/ladder_attention" "$name" mma
  done
}
stage_lists() { rung "line lists" 90 "$build/line_lists_check"; }
stage_select() {
  rung "identity with the host" 90 "$build/identity_check"
  rung "selection" 200 python3 tools/gpu/selection_check.py "$build/libtessera_cuda.so"
}
stage_decode() { rung "decode" 90 "$build/decode_check"; }
stage_sanitize() {
  local sanitizer name
  sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
  [[ -x $sanitizer ]] || { say "skip  compute-sanitizer is not here"; return 0; }
  for name in tile lists lists64 columns bands; do
    rung "memcheck $name" 90 "$sanitizer" --tool memcheck --error-exitcode 9 "$build/ladder_attention" "$name"
  done
  for name in tile groups lists lists64 columns bands split; do
    rung "racecheck $name" 90 "$sanitizer" --tool racecheck --error-exitcode 9 "$build/ladder_attention" "$name"
  done
  for name in memcheck racecheck; do
    rung "$name decode" 120 "$sanitizer" --tool $name --error-exitcode 9 "$build/decode_check" --small
  done
  rung "memcheck selection" 180 "$sanitizer" --tool memcheck --kernel-name kns=tessera --error-exitcode 9 \
    python3 tools/gpu/selection_check.py "$build/libtessera_cuda.so" quick
  rung "racecheck selection" 180 "$sanitizer" --tool racecheck --kernel-name kns=tessera --error-exitcode 9 \
    python3 tools/gpu/selection_check.py "$build/libtessera_cuda.so" quick
  rung "racecheck mma.sync tile" 90 "$sanitizer" --tool racecheck --error-exitcode 9 "$build/ladder_attention" tile mma
}
stage_bench() {
  local name
  for name in error dense lists lines; do
    timeout -k 5 200 python3 tools/gpu/bench.py "$build/libtessera_cuda.so" "$out" --stages $name --lengths "$lengths" \
      --seconds "$seconds" 2>&1 | tee -a "$summary"
    if [[ ${PIPESTATUS[0]} -ne 0 ]]; then
      failures=$((failures + 1))
      say "FAIL  bench $name"
    fi
  done
  timeout -k 5 120 python3 tools/gpu/decode_bench.py "$build/libtessera_cuda.so" "$out" 2>&1 | tee -a "$summary"
  [[ ${PIPESTATUS[0]} -eq 0 ]] || { failures=$((failures + 1)); say "FAIL  bench decode"; }
}

nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem --format=csv,noheader 2>&1 | tee -a "$summary"
for stage in ${stages//,/ }; do
  [[ $stage == build ]] || declare -F "stage_$stage" >/dev/null || { echo "unknown stage '$stage'" >&2; exit 2; }
  if [[ $stage == build ]]; then
    begin=$(date +%s)
    if build_all >"$out/build_log.txt" 2>&1; then
      say "ok    build ($(($(date +%s) - begin)) s)"
      grep -E 'C75' "$out/build_log.txt" | tee -a "$summary"
    else
      say "FAIL  build"
      tail -n 40 "$out/build_log.txt" | tee -a "$summary"
      exit 1
    fi
  else
    "stage_$stage"
  fi
done
echo "---- summary"
grep -E '^(ok|FAIL|skip)' "$summary"
echo "failures: $failures"
[[ $failures -eq 0 ]]
