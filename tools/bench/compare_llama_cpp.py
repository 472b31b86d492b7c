#!/usr/bin/env python3
"""Prefill and decode speed of tessera against llama.cpp: same weights, same threads, same run.

    python3 -m venv V && V/bin/pip install llama-cpp-python numpy
    V/bin/python tools/bench/compare_llama_cpp.py GGUF --json bench/results/cpu/smollm2_vs_llama_cpp.json

Rounds alternate between the two programs, so that both meet the same neighbours on a shared machine; medians and
quartiles over rounds. llama.cpp runs with flash attention on and off and the better median counts as the rival's.
"""
import argparse
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run_llama(arguments, flash_attention):
    """One round in a process of its own: {length: {prefill: tok/s, prefill_cpu: tok per CPU second, decode: tok/s}}."""
    from llama_cpp import Llama

    model = Llama(arguments.gguf, n_ctx=max(arguments.lengths) + arguments.decode + 64, n_batch=2048, n_ubatch=512,
                  n_threads=arguments.threads, n_threads_batch=arguments.threads, verbose=False,
                  flash_attn=flash_attention)
    draw = random.Random(0)
    model.eval([draw.randrange(100, 40000) for _ in range(256)])
    result = {}
    for length in arguments.lengths:
        model.reset()
        tokens = [draw.randrange(100, 40000) for _ in range(length)]
        wall, cpu = time.perf_counter(), time.process_time()
        model.eval(tokens)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        decode = time.perf_counter()
        for _ in range(arguments.decode):
            model.eval([draw.randrange(100, 40000)])
        decode = time.perf_counter() - decode
        result[str(length)] = {"prefill": length / wall, "prefill_cpu": length / cpu, "decode": arguments.decode / decode}
    return result


def run_tessera(arguments):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "result.json"
        subprocess.run([str(ROOT / "build/release/bin/bench_session"), arguments.gguf, "--repeats", "1", "--lengths",
                        ",".join(map(str, arguments.lengths)), "--decode", str(arguments.decode), "--json", str(out)],
                       check=True, stdout=subprocess.DEVNULL, env={"TESSERA_THREADS": str(arguments.threads)})
        data = json.loads(out.read_text())
    rows = {str(row["length"]): {"prefill": row["prefill_tokens_per_second"],
                                 "prefill_cpu": 1000 * row["length"] / row["prefill_cpu_ms"]["median"],
                                 "decode": row["decode_tokens_per_second"]} for row in data["rows"]}
    return rows, data["machine"]


def in_child(arguments, flash_attention):
    command = [sys.executable, __file__, arguments.gguf, "--child", "on" if flash_attention else "off", "--threads",
               str(arguments.threads), "--decode", str(arguments.decode), "--lengths", *map(str, arguments.lengths)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def summarise(rounds, length, what):
    values = sorted(r[str(length)][what] for r in rounds)
    quartiles = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return {"median": statistics.median(values), "lower_quartile": quartiles[0], "upper_quartile": quartiles[2]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--decode", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    parser.add_argument("--child", choices=["on", "off"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(run_llama(arguments, arguments.child == "on")))
        return
    rounds = {"tessera": [], "llama.cpp, flash attention": [], "llama.cpp, no flash attention": []}
    for _ in range(arguments.rounds):
        ours, machine = run_tessera(arguments)
        rounds["tessera"].append(ours)
        rounds["llama.cpp, flash attention"].append(in_child(arguments, True))
        rounds["llama.cpp, no flash attention"].append(in_child(arguments, False))
    import llama_cpp
    result = {"machine": machine, "rival": f"llama-cpp-python {llama_cpp.__version__}", "threads": arguments.threads,
              "rounds": arguments.rounds, "model": pathlib.Path(arguments.gguf).name, "lengths": {}}
    for length in arguments.lengths:
        table = {name: {what: summarise(values, length, what) for what in ("prefill", "prefill_cpu", "decode")}
                 for name, values in rounds.items()}
        rivals = [name for name in table if name != "tessera"]
        ratios = {what: table["tessera"][what]["median"] / max(table[name][what]["median"] for name in rivals)
                  for what in ("prefill", "prefill_cpu", "decode")}
        result["lengths"][str(length)] = {"tokens_per_second": table, "ratio_to_best_rival": ratios}
        print(f"{length} tokens: " + ", ".join(f"{what} {ratio:.2f}x" for what, ratio in ratios.items()))
        for name, row in table.items():
            print(f"   {name:<30} prefill {row['prefill']['median']:7.1f}  per CPU second {row['prefill_cpu']['median']:7.1f}"
                  f"  decode {row['decode']['median']:6.1f}")
    if arguments.json:
        path = pathlib.Path(arguments.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
