"""Trains the bundled model further, writes it as a model directory and scores it: one command, one time limit.

    python tools/nano/go_on.py --work /tmp/nano_more --seconds 480

Starts from models/nano: every task at full length, prefix-suffix also with few prefixes from the shortest length on. The
rate falls to nothing over the last part of the training. Writes WORK/model (Hugging Face directory) and
WORK/evaluation.json (every task, mode and turn). What training cannot finish within its part of the time is left out,
never the evaluation. Options after `--` go to train.py.
"""
import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def run(script, *arguments):
    subprocess.run([sys.executable, str(HERE / script), *map(str, arguments)], check=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--work", type=Path, required=True)
    ap.add_argument("--seconds", type=float, default=480, help="for everything")
    ap.add_argument("--reserve", type=float, default=100, help="of these, seconds for start, export and evaluation")
    ap.add_argument("--weights", type=Path, default=HERE.parents[1] / "models" / "nano")
    ap.add_argument("--begin", type=int, default=8192, help="tokens at which every task begins")
    ap.add_argument("--longest", type=int, default=8704)
    ap.add_argument("--lengths", default="4096,8192,16384", help="of the evaluation")
    ap.add_argument("--examples", type=int, default=40, help="of the evaluation, per task and length")
    ap.add_argument("more", nargs="*", help="options for train.py, after --")
    args = ap.parse_args()
    start = time.time()
    run("train.py", "--work", args.work, "--weights", args.weights, "--go-on-at", args.begin, "--longest", args.longest,
        "--seconds", max(1.0, args.seconds - args.reserve), "--lr", 1.2e-3, "--muon-lr", 0.012, "--tail", 0.8, "--rest", 0.1, "--guide", 0.5, *args.more)
    run("export.py", args.work / "ckpt", "--out", args.work / "model", "--longest", args.longest)
    run("evaluate.py", args.work / "model", "--lengths", args.lengths, "--examples", args.examples,
        "--out", args.work / "evaluation.json")
    print(f"{time.time() - start:.0f} of {args.seconds:.0f} s; the model is in {args.work / 'model'}")


if __name__ == "__main__":
    main()
