"""Scores a model directory (or a training checkpoint) on the six tasks: greedy decoding, per turn, in both modes.

multi-turn: context, then each earlier input with its true answer, then the input; multi-request: context and input.
The score is exact match up to the newline that ends the answer; for vt the share of the three names that the answer
holds. Intervals are 95 %: Wilson's for exact match (turns of one example counted as independent), bootstrap over
examples for vt.

    python tools/nano/evaluate.py models/nano --examples 100 --out eval.json
"""
import argparse
import json
import random
import time
from pathlib import Path

import torch

import checkpoint
import tasks
import vocab
from model import Nano, Shape, from_hf, shape_of

MODES = ("multi-turn", "multi-request")


def load_model(folder: Path) -> Nano:
    """Weights rounded to bf16, as they are shipped; arithmetic is the device's."""
    if (folder / "meta.json").exists():
        model = Nano(Shape(**json.loads((folder / "meta.json").read_text())["shape"]))
        checkpoint.load(folder, model)
    else:
        from safetensors.torch import load_file
        shape = shape_of(json.loads((folder / "config.json").read_text()))
        model = from_hf(load_file(folder / "model.safetensors"), shape)
    return model.bfloat16().float().eval()


@torch.no_grad()
def next_tokens(model, ids, at):
    """Greedy next token after each place of `at`: [B, len(at)]."""
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=ids.is_cuda):
        h = model(ids)
        return model.logits(h[:, torch.tensor(at, device=ids.device)]).argmax(-1)


def greedy(model, prompt, most):
    """[B, P] -> [B, most] generated tokens."""
    p = prompt.shape[1]
    for _ in range(most):
        prompt = torch.cat((prompt, next_tokens(model, prompt, [prompt.shape[1] - 1])), 1)
    return prompt[:, p:]


def names_found(generated, reference):
    """Share of the reference's names before the first newline of what was generated."""
    if vocab.NEWLINE in generated:
        generated = generated[:generated.index(vocab.NEWLINE)]
    return sum(n in generated for n in reference) / len(reference)


def prompts(batch, mode, turn):
    """[B, P] what the model has seen before it answers this turn."""
    s, i, _ = batch.spans[turn]
    if mode == "multi-turn":
        return torch.cat((batch.ctx, batch.tail[:, :s + i]), 1)
    return torch.cat((batch.ctx, batch.tail[:, s:s + i]), 1)


def score_batch(model, task, batch, mode):
    """[B][turns] scores. One pass over the true answers tells which would be generated exactly; vt's other answers
    are then really generated."""
    ids, spans = batch.ids, batch.spans
    if mode == "multi-turn":
        at = batch.answer_at()
        flat = [p for turn in at for p in turn]
        right = next_tokens(model, ids[:, :-1], flat) == ids[:, [p + 1 for p in flat]]
        right = torch.stack([part.all(1) for part in right.split([len(t) for t in at], 1)], 1)
    else:
        columns = []
        for turn, (s, i, a) in enumerate(spans):
            answer = torch.cat((batch.tail[:, s + i:s + i + a], torch.full_like(ids[:, :1], vocab.NEWLINE)), 1)
            x = torch.cat((prompts(batch, mode, turn), answer), 1)
            p = x.shape[1] - a - 1
            columns.append((next_tokens(model, x[:, :-1], list(range(p - 1, p + a))) == answer).all(1))
        right = torch.stack(columns, 1)
    score = right.float()
    if task == "vt":
        for turn, (s, i, a) in enumerate(spans):
            rows = (~right[:, turn]).nonzero()[:, 0]
            if len(rows):
                got = greedy(model, prompts(batch, mode, turn)[rows], a + 2).tolist()
                want = batch.tail[rows, s + i:s + i + a].tolist()
                score[rows, turn] = torch.tensor([names_found(x, y) for x, y in zip(got, want)], device=score.device)
    return score.tolist()


def wilson(hits, n, z=1.96):
    p, d = hits / n, 1 + z * z / n
    mid, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, (mid - half) / d), min(1.0, (mid + half) / d)


def bootstrap(values, draws=2000):
    rng = random.Random(0)
    means = sorted(sum(rng.choices(values, k=len(values))) / len(values) for _ in range(draws))
    return means[int(0.025 * draws)], means[int(0.975 * draws) - 1]


def summary(task, scores):
    """scores [examples][turns] -> mean and interval over all and per turn."""
    def one(values, n):
        mean = sum(values) / len(values)
        low, high = wilson(mean * n, n) if task != "vt" or mean == 1.0 else bootstrap(values)
        return {"score": round(mean, 4), "low": round(low, 4), "high": round(high, 4)}

    turns = len(scores[0])
    whole = one([sum(s) / turns for s in scores], len(scores) * turns)
    return {**whole, "turns": [one([s[t] for s in scores], len(scores)) for t in range(turns)]}


def evaluate(model, device, lengths, examples, turns, names, seed, tokens_at_once):
    out = []
    for task in names:
        for length in lengths:
            g = torch.Generator(device=device).manual_seed(seed + length)
            scores = {m: [] for m in MODES}
            n = 5 if task == "mf" else turns
            rows = max(1, min(examples, tokens_at_once // length))
            for first in range(0, examples, rows):
                batch = tasks.make(task, g, min(rows, examples - first), length, n)
                for mode in MODES:
                    scores[mode] += score_batch(model, task, batch, mode)
            out += [{"task": task, "length": length, "mode": m, "examples": examples, **summary(task, scores[m])}
                    for m in MODES]
    return out


def table(results):
    lengths = sorted({r["length"] for r in results})
    lines = ["| task | mode | " + " | ".join(f"{n}" for n in lengths) + " |", "|---" * (len(lengths) + 2) + "|"]
    for task in dict.fromkeys(r["task"] for r in results):
        for mode in MODES:
            cells = []
            for n in lengths:
                r = next(r for r in results if (r["task"], r["mode"], r["length"]) == (task, mode, n))
                cells.append(f"{100 * r['score']:.1f} [{100 * r['low']:.1f}, {100 * r['high']:.1f}], worst turn "
                             f"{100 * min(t['score'] for t in r['turns']):.1f}")
            lines.append(f"| {task} | {mode} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("model", type=Path)
    ap.add_argument("--lengths", type=lambda s: [int(x) for x in s.split(",")], default=[1024, 2048, 4096, 8192])
    ap.add_argument("--examples", type=int, default=100)
    ap.add_argument("--turns", type=int, default=5)
    ap.add_argument("--tasks", type=lambda s: s.split(","), default=list(tasks.TASKS))
    ap.add_argument("--seed", type=int, default=12345)
    ap.add_argument("--out", type=Path, help="write the figures as JSON")
    ap.add_argument("--tokens-at-once", type=int, default=262144)
    args = ap.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(args.model).to(device)
    start = time.time()
    results = evaluate(model, device, args.lengths, args.examples, args.turns, args.tasks, args.seed,
                       args.tokens_at_once)
    print(table(results))
    print(f"{args.examples} examples a cell, {args.turns} turns each (mf 5), {time.time() - start:.0f} s, {device.type}")
    if args.out:
        args.out.write_text(json.dumps({"examples": args.examples, "seed": args.seed, "device": device.type,
                                        "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
