"""Trains the bundled model on the six tasks jointly, with loss on answers alone and a length curriculum per task.

A step adds up a few *units*. A unit is one task at one length: rows of T tokens, T from a short list of lengths, about
UNIT tokens in all. Each task has its own frontier in that list; it moves on when the exact match of frontier units
passes the task's gate. Tasks are drawn in proportion to what they still get wrong.

    python tools/nano/train.py --work /tmp/nano --seconds 1000 [--resume]

Writes WORK/ckpt (resumable), WORK/log.txt; reads WORK/control.json (and moves it aside) while running: {"seconds",
"lr_scale", "share", "frontier", "longest"}.
"""
import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import checkpoint
import guide
import optim
import tasks
import vocab
from evaluate import load_model
from model import Nano, Shape, shape_dict

LENGTHS = [48, 64, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024, 1280, 1536, 2048, 2560, 3072, 4096, 5120,
           6144, 7168, 8192, 8704, 10240, 12288, 14336, 16896]
GATE = {"kv": .85, "prefix-suffix": .85, "vt": .8, "mf": .6, "many-shot": .85, "passkey": .9}
START = {"kv": 128, "prefix-suffix": 96, "vt": 192, "mf": 128, "many-shot": 192, "passkey": 128}
CEILING = {"mf": .75, "many-shot": .97}          # what is thought reachable, for the shares
MOST_TURNS = 64
REST_ROWS = 32                                   # rows per unit whose attention is measured (rest.py)
REST_LENGTHS = (8192, 16384, 32768)              # of random tokens, read for their attention alone
LATER = 1024                                     # tokens of kv at which prefix-suffix begins with few prefixes


class Curriculum:
    def __init__(self, longest, frontier=None):
        self.last = max(i for i, t in enumerate(LENGTHS) if t <= longest)
        self.first = {t: LENGTHS.index(START[t]) for t in tasks.TASKS}
        self.frontier = {t: max(self.first[t], (frontier or {}).get(t, 0)) for t in tasks.TASKS}
        self.seen = {t: [] for t in tasks.TASKS}         # exact match of frontier units since the last move
        self.err = {t: 1.0 for t in tasks.TASKS}         # smoothed error at the frontier
        self.share, self.only = {}, list(tasks.TASKS)
        self.few_prefixes = False                        # whether prefix-suffix has begun with few prefixes
        self.least = {}                                  # least weight of a task in the shares

    def shared(self):
        """How often prefix-suffix gets units with few prefixes. Never before kv has left its plateau: prefix-suffix
        without them is where the model learns to look up what followed a word, and kv, vt and passkey build on that.
        Then mostly, from the shortest length on, until it can do them at full length."""
        if not self.few_prefixes and LENGTHS[self.frontier["kv"]] >= LATER:
            self.few_prefixes = True
            self.frontier["prefix-suffix"], self.err["prefix-suffix"] = self.first["prefix-suffix"], 1.0
        if not self.few_prefixes:
            return 0.0
        return 0.7 if self.frontier["prefix-suffix"] < self.last else 0.25

    def go_on(self, at):
        """For weights that know the tasks: every task begins at the length `at`, but prefix-suffix's units with few prefixes
        at the shortest, where a unit has the most answers. What is known badly gets more units."""
        top = max(i for i, t in enumerate(LENGTHS) if t <= at)
        self.frontier = {t: max(self.first[t], min(top, self.last)) for t in tasks.TASKS}
        self.few_prefixes, self.frontier["prefix-suffix"] = True, self.first["prefix-suffix"]
        self.least = {"prefix-suffix": 0.5, "mf": 0.8}

    def update(self, task, index, em):
        if index != self.frontier[task]:
            return
        ceiling = CEILING.get(task, 1.0)
        self.err[task] += 0.1 * (max(0.0, ceiling - em) / ceiling - self.err[task])
        self.seen[task] = (self.seen[task] + [em])[-3:]
        if len(self.seen[task]) >= 2 and sum(self.seen[task]) / len(self.seen[task]) > GATE[task]:
            if index < self.last:
                self.frontier[task] = min(self.last, index + (2 if sum(self.seen[task]) / len(self.seen[task]) > .97
                                                              else 1))
                self.seen[task] = []

    def shares(self, fixed):
        """Part of the units each task gets: its error and how far it is from full length; mf is kept small."""
        w = {}
        for t in tasks.TASKS:
            left = 1 - math.log(LENGTHS[self.frontier[t]] / 64) / math.log(LENGTHS[self.last] / 64)
            w[t] = min(1.0, max(0.2, self.err[t] + 0.5 * left))
        w["mf"] = min(w["mf"], 0.3)
        w = {t: max(x, self.least.get(t, 0)) for t, x in w.items()} | fixed
        w = {t: x for t, x in w.items() if t in self.only}
        total = sum(w.values())
        self.share = {t: x / total for t, x in w.items()}
        return self.share


def draw_turns(rng, task, room, few):
    """Turns for a unit with `room` tokens a row: as at test time in part, else many, for more answers per row."""
    per = tasks.INPUT[task] + tasks.ANSWER[task] + tasks.NEEDLE[task]
    most = max(1, min(MOST_TURNS, int(room * 0.5) // per))
    if task == "mf":
        return 5
    return rng.randint(1, min(8, most)) if rng.random() < few else rng.randint(min(8, most), most)


def make_unit(rng, g, task, index, unit, few=0.4, crowd=0.25, pooled=0.6, hard=False):
    """`crowd`: how often needles that nobody asks for are added. With few needles and much noise, naming any of them
    is so good an answer that the match with the question is learned late. `pooled`: how often the lines of kv and
    prefix-suffix share few words, so that only the whole key tells them apart, as happens by itself at 8K. `hard`:
    prefix-suffix has only a few prefixes, eight lines to each at least, so that the prefix alone tells nothing."""
    length = LENGTHS[index]
    turns = draw_turns(rng, task, length, few)
    below = LENGTHS[index - 1] if index else length * 3 // 4
    slack = rng.randint(0, length - below - 1) if rng.random() < 0.5 else 0
    ctx = length - tasks.tail_tokens(task, turns) - slack
    if task == "many-shot":
        turns = min(turns, tasks.items_for(task, ctx, turns), tasks.CUES)
    if task in ("kv", "prefix-suffix"):
        turns = min(turns, tasks.items_for(task, ctx, turns))
    more = {}
    if task == "mf":
        more["order"] = list(range(5)) if rng.random() < 0.4 else rng.sample(range(5), 5)
        if rng.random() < 0.6:
            more["stops"] = rng.randint(0, min(16, ctx // 80))           # a halt takes 27 tokens
            ctx -= 27 * more["stops"]
    if task == "many-shot" and rng.random() < max(0.4, crowd):
        more["cues"] = rng.choice([8, 16, 24, 32, 48])
        turns = min(turns, more["cues"])
    if hard:
        more["prefixes"] = min(rng.choice([1, 1, 1, 2, 4, 8, 16]), max(1, tasks.items_for(task, ctx, turns) // 8))
    elif task in ("kv", "prefix-suffix") and rng.random() < pooled:
        n = tasks.items_for(task, ctx, turns)
        more["pool"] = min(vocab.WORDS, max(12, int(n * 4 * rng.uniform(0.15, 1.0))))
    if tasks.NEEDLE[task] and rng.random() < crowd:
        most = max(0, (ctx - 16 - tasks.NEEDLE[task] * max(2, turns)) // tasks.NEEDLE[task])
        more["more"] = min(200, int(most * rng.random() ** 0.5))
    return tasks.make(task, g, max(1, unit // length), ctx, turns, exact=False, **more)


def pinned(x, device):
    t = torch.tensor(x)
    return t.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else t


def rest_rows(rng, task, batch):
    """REST_ROWS rows of the context that need not look anything up, and how much each counts; many-shot's signs are looked
    up on the way, mf is about all rows."""
    last = batch.ctx.shape[1]
    rows = [rng.randrange(last // 8, last) for _ in range(REST_ROWS)]
    if task == "many-shot":
        rows = [r - 2 if (r - 2) % 7 in (4, 5) and r > 2 else r for r in rows]
    return rows, 0.0 if task == "mf" else 1.0


def rest_loss(model, rng, g, unit, device):
    """Of random tokens, in which there is nothing to find."""
    length = rng.choice([n for n in REST_LENGTHS if n <= unit] or [unit])
    ids = torch.randint(0, vocab.SIZE, (max(2, 2 * unit // length), length), generator=g, device=device)
    ids[:, 0] = vocab.BEGIN
    rows = pinned([rng.randrange(length // 8, length) for _ in range(REST_ROWS)], device)
    return model(ids, rows)[1].mean(), length


def unit_loss(model, batch, length, device, rows=None, guides=()):
    """(loss on the answers, exact match, what the rows `rows` miss or None, what the guides miss)."""
    ids = batch.ids
    x = F.pad(ids[:, :-1], (0, length - ids.shape[1] + 1), value=vocab.PAD)
    at = batch.answer_at()
    turns, width = len(at), len(at[0])
    at = pinned([p for turn in at for p in turn], device)
    h, missed, astray = (model(x), None, []) if rows is None else model(x, pinned(rows, device), guides)
    logits = model.logits(h.index_select(1, at)).float()
    target = ids[:, at + 1]
    loss = F.cross_entropy(logits.flatten(0, 1), target.flatten())
    right = (logits.argmax(-1) == target).view(-1, turns, width).all(-1).float().mean(0)     # [turns]
    if batch.extra_at is not None:
        logits = model.logits(h.index_select(1, batch.extra_at)).float()
        each = F.cross_entropy(logits.flatten(0, 1), ids[:, batch.extra_at + 1].flatten(), reduction="none")
        ok = batch.extra_ok.flatten().float()
        loss = loss + (each * ok).sum() / ok.sum().clamp(min=1)
    if "order" in batch.info:                                                                # leave the median out
        keep = [i for i, q in enumerate(batch.info["order"]) if q != 4]
        right = right[keep[0]:keep[0] + 1] if len(keep) == 1 else torch.stack([right[i] for i in keep])
    return loss, right.mean(), None if missed is None else missed.mean(), astray


def spread(rng, share, units):
    """`units` tasks in proportion to `share`, with as little chance as possible."""
    out, acc, u = [], 0.0, rng.random()
    for t, p in share.items():
        acc += p * units
        while u < acc:
            out.append(t)
            u += 1
    return out or [rng.choice(list(share))]


def schedule(clock, seconds, step, tail):
    return min(1.0, (step + 1) / 200) * max(0.01, min(1.0, (seconds - clock) / (tail * seconds)))


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--work", type=Path, required=True)
    ap.add_argument("--seconds", type=float, default=1000, help="training time in all, earlier runs counted in")
    ap.add_argument("--pause", type=float, help="stop at this many seconds, to be resumed on the same schedule")
    ap.add_argument("--weights", type=Path, help="model directory to start from, with new optimisers and curricula")
    ap.add_argument("--resume", type=Path, help="checkpoint folder to go on from")
    ap.add_argument("--go-on-at", type=int, help="with --weights: the length at which every task begins")
    ap.add_argument("--longest", type=int, default=8704)
    ap.add_argument("--units", type=int, default=5, help="units per step")
    ap.add_argument("--unit", type=int, default=34816, help="tokens per unit")
    ap.add_argument("--optimizer", choices=("adamw", "muon"), default="muon")
    ap.add_argument("--lr", type=float, default=1.5e-3)
    ap.add_argument("--muon-lr", type=float, default=0.015)
    ap.add_argument("--embed-std", type=float, default=0.05)
    ap.add_argument("--theta", type=float, default=1e8, help="base of the rotary angles")
    ap.add_argument("--tail", type=float, default=0.35, help="part of the time over which the rate falls to zero")
    ap.add_argument("--layers", type=int, default=6)
    ap.add_argument("--width", type=int, default=256)
    ap.add_argument("--ff", type=int, default=768)
    ap.add_argument("--attention", choices=("auto", "flash", "cudnn"), default="auto", help="attention kernel")
    ap.add_argument("--rest", type=float, default=0, help="weight of the attention that context rows spend elsewhere (rest.py)")
    ap.add_argument("--guide", type=float, default=0, help="weight of prefix-suffix's guides (guide.py); needs --rest")
    ap.add_argument("--only", help="comma list of tasks to train on")
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--every", type=float, default=10, help="seconds between log lines")
    args = ap.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    if args.attention != "auto":
        torch.backends.cuda.enable_flash_sdp(args.attention == "flash")
        torch.backends.cuda.enable_cudnn_sdp(args.attention == "cudnn")
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_math_sdp(False)
    rng, g = random.Random(args.seed), torch.Generator(device=device).manual_seed(args.seed + 1)
    model = Nano(Shape(layers=args.layers, width=args.width, ff=args.ff, rope_theta=args.theta))
    model.init(args.embed_std)
    if args.weights:
        model = load_model(args.weights)
    model.to(device)
    opts = optim.build(model, args.optimizer, args.lr, args.muon_lr)
    step, before, cur = 0, 0.0, Curriculum(args.longest)
    if args.resume and (args.resume / "meta.json").exists():
        meta = checkpoint.load(args.resume, model, opts)
        step, before = meta["step"], meta["clock"]
        cur = Curriculum(args.longest, meta["frontier"])
        cur.err, cur.few_prefixes = meta["err"], meta.get("few_prefixes", False)
        cur.least = meta.get("least", {})
        rng.seed(step)
        g.manual_seed(step)
    elif args.go_on_at:
        cur.go_on(args.go_on_at)
    if args.only:
        cur.only = args.only.split(",")
    if device.type == "cuda":
        for layer in model.layers:                       # one compilation serves all layers: 10 s, not 40
            layer.compile(dynamic=True)
    args.work.mkdir(parents=True, exist_ok=True)
    log = (args.work / "log.txt").open("a")

    def say(text):
        print(text, flush=True)
        log.write(text + "\n")
        log.flush()

    def save():
        meta = {"step": step, "clock": clock, "frontier": cur.frontier, "err": cur.err, "few_prefixes": cur.few_prefixes,
                "least": cur.least, "shape": shape_dict(model.s)}
        checkpoint.save(args.work / "ckpt", model, opts, meta)

    say(f"parameters {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M, {args}")
    seconds, scale, fixed = args.seconds, 1.0, {}
    start = time.time() - before
    clock = said = saved = before
    pending, tokens, loss_sum, recent = [], 0, 0.0, {}
    while clock < min(seconds, args.pause or seconds):
        share = cur.shares(fixed)
        rate = schedule(clock, seconds, step, args.tail) * scale
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = group["base"] * rate
        chosen = spread(rng, share, args.units)
        for task in chosen:
            top = cur.frontier[task]
            index = top if rng.random() < 0.65 else rng.randint(cur.first[task], top)
            few, crowd = (0.15, 0.75) if cur.err[task] > .2 else (0.4, 0.2)
            # Once prefix-suffix has begun with few prefixes, only these units count; the others keep the length it has reached.
            hard = task == "prefix-suffix" and rng.random() < cur.shared()
            counts = hard or task != "prefix-suffix" or not cur.few_prefixes
            if not counts:
                index = rng.randint(cur.last // 2, cur.last) if args.go_on_at else index
            batch = make_unit(rng, g, task, index, args.unit, few, crowd, hard=hard)
            rows, counted = rest_rows(rng, task, batch) if args.rest else (None, 0.0)
            guides = guide.prefix_suffix(rng, batch, device, pinned) if args.guide and task == "prefix-suffix" else []
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss, em, missed, astray = unit_loss(model, batch, LENGTHS[index], device, rows, guides)
            pending.append((task, index if counts else -1, em, loss.detach()))
            for name, one in zip(("fetch1", "fetch2", "find"), astray):
                pending.append((name, -1, one.detach(), one.detach()))
                loss = loss + args.guide * one
            if task == "prefix-suffix":
                pending.append(("hard" if hard else "usual", -1, em, em))
            if missed is not None and counted:
                loss = loss + args.rest * missed
                pending.append(("rest", -1, missed.detach(), missed.detach()))
            (loss / len(chosen)).backward()
            tokens += LENGTHS[index] * max(1, args.unit // LENGTHS[index])
        if args.rest and step % 8 == 0:                  # random tokens: about one in twenty
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                missed, length = rest_loss(model, rng, g, args.unit, device)
            (args.rest * missed / len(chosen)).backward()
            pending.append(("random", -1, missed.detach(), missed.detach()))
            tokens += 2 * args.unit // length * length
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        for opt in opts:
            opt.step()
        model.zero_grad(set_to_none=True)
        step += 1
        if step % 8 == 0 or device.type == "cpu":
            values = torch.stack([torch.stack((e, l)) for _, _, e, l in pending]).tolist()
            for (task, index, _, _), (em, loss) in zip(pending, values):
                if index >= 0:
                    cur.update(task, index, em)
                recent.setdefault(task, []).append((em, loss))
            pending.clear()
            clock = time.time() - start
            if clock - said > args.every:
                cells = []
                for t in cur.only:
                    r = recent.get(t) or [(float("nan"),) * 2]
                    mean = [sum(c) / len(r) for c in zip(*r)]
                    cells.append(f"{t[:6]} {LENGTHS[cur.frontier[t]]}:{mean[0]:.3f}/{1 - cur.err[t]:.3f} l{mean[1]:.2f}")
                cells += [f"{t} {sum(l for _, l in recent[t]) / len(recent[t]):.3f}" for t in ("rest", "random", "fetch1", "fetch2", "find", "hard", "usual")
                          if t in recent]
                say(f"{clock:6.1f}s step {step} {tokens / (clock - said) / 1e6:.2f}Mt/s lr {rate:.2f} | "
                    + " | ".join(cells))
                said, tokens, recent = clock, 0, {}
                control = args.work / "control.json"
                if control.exists():
                    c = json.loads(control.read_text())
                    seconds, scale, fixed = c.get("seconds", seconds), c.get("lr_scale", 1.0), c.get("share", {})
                    cur.frontier |= {t: LENGTHS.index(n) for t, n in c.get("frontier", {}).items()}
                    control.rename(args.work / "control.read.json")
                    if "longest" in c:
                        cur.last = max(i for i, t in enumerate(LENGTHS) if t <= c["longest"])
            if clock - saved > 45:
                save()
                saved = clock
    save()
    (args.work / "done").write_text(str(step))
    say(f"done after {clock:.1f} s, {step} steps")


if __name__ == "__main__":
    main()
