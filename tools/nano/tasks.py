"""Batches of the six synthetic tasks of docs/tasks.md as token ids, made on any torch device.

All rows of one batch share the task, the context length and the number of turns, so every row has its answers at the
same places. `make` is the entry point; `render` in vocab.py turns ids back into text.
"""
from dataclasses import dataclass, field

import torch

import vocab as v

TASKS = ("kv", "prefix-suffix", "vt", "mf", "many-shot", "passkey")
NL, Q, EQ, IS = v.NEWLINE, v.QUESTION, v.EQUALS, v.IS
CUES, LABELS = 64, 8
MF_ASKS = ("largest", "smallest", "second largest", "second smallest", "median")
ANSWER = {"kv": 2, "prefix-suffix": 4, "vt": 3, "mf": 1, "many-shot": 1, "passkey": 1}   # tokens of one answer
INPUT = {"kv": 5, "prefix-suffix": 6, "vt": 4, "mf": 5, "many-shot": 7, "passkey": 5}    # tokens of one input, at most
ITEM = {"kv": 6, "prefix-suffix": 5, "vt": 6, "mf": 1, "many-shot": 7, "passkey": 6}     # tokens of one context line
NEEDLE = {"kv": 0, "prefix-suffix": 0, "vt": 12, "mf": 0, "many-shot": 0, "passkey": 5}  # further tokens per target


@dataclass
class Batch:
    ctx: torch.Tensor                 # [B, C] <|begin|> and the context
    tail: torch.Tensor                # [B, R] inputs and answers of all turns
    spans: list                       # per turn (start in tail, input tokens, answer tokens)
    extra_at: torch.Tensor = None     # [E] places in ctx whose next token can be predicted (many-shot's labels)
    extra_ok: torch.Tensor = None     # [B, E] where it can be known: the cue stood before
    info: dict = field(default_factory=dict)

    @property
    def ids(self):
        """[B, C + R + 1]: everything, and the newline that ends the last answer."""
        return torch.cat((self.ctx, self.tail, torch.full_like(self.ctx[:, :1], NL)), 1)

    def answer_at(self):
        """Per turn, the places whose next tokens are the answer and the newline after it."""
        c = self.ctx.shape[1]
        return [list(range(c + s + i - 1, c + s + i + a)) for s, i, a in self.spans]


def items_for(task: str, length: int, turns: int) -> int:
    """How many lines (pairs, entries, noise lines, numbers, demonstrations) fill a context of `length` tokens,
    <|begin|> counted."""
    needles = max(2, turns) if task == "vt" else turns
    return (length - 2 - NEEDLE[task] * needles) // ITEM[task]


def tail_tokens(task: str, turns: int) -> int:
    return turns * (INPUT[task] + ANSWER[task])


def _rand(g, *shape):
    return torch.rand(*shape, generator=g, device=g.device)


def _int(g, lo, hi, *shape):
    return torch.randint(lo, hi, shape, generator=g, device=g.device)


def _perm(g, rows, n, keep=None):
    """[rows, keep] distinct numbers below n, in random order."""
    return _rand(g, rows, n).argsort(1)[:, :keep]


def _words(g, *shape):
    return v.WORD0 + _int(g, 0, v.WORDS, *shape)


_known = {}


def _const(like, *ids):
    """[..., len(ids)] constant ids with the leading shape of `like` [..., k]. Kept per device: making a tensor from a
    list waits for the GPU."""
    key = (like.device, ids)
    if key not in _known:
        _known[key] = torch.tensor(ids, device=like.device)
    return _known[key].expand(*like.shape[:-1], len(ids))


def _pick(x, idx):
    """x [B, N, k], idx [B, M] -> [B, M, k]."""
    return x.gather(1, idx[..., None].expand(-1, -1, x.shape[-1]))


def _distinct_pairs(g, rows, n, exact, words=v.WORDS):
    """[rows, n, 2] word ids whose pairs differ within a row. Without `exact` one round of repair is taken as enough
    (what is left over is rarer than one row in 10,000), which spares the GPU a round trip."""
    code = _int(g, 0, words ** 2, rows, n)
    while True:
        order = code.sort(1)
        again = torch.zeros_like(code, dtype=torch.bool)
        again.scatter_(1, order.indices[:, 1:], order.values[:, 1:] == order.values[:, :-1])
        if exact and not again.any():
            break
        code = torch.where(again, _int(g, 0, words ** 2, rows, n), code)
        if not exact:
            break
    return v.WORD0 + torch.stack((code // words, code % words), -1)


def _pooled(g, x, pool):
    """Renames words below `pool` to as many of all words, anew in each row; x [B, ...]."""
    names = _perm(g, x.shape[0], v.WORDS, pool)
    return v.WORD0 + names.gather(1, (x - v.WORD0).flatten(1)).view_as(x)


def _pair_lines(g, rows, n, exact, pool):
    """[rows, n, 4]: two words that differ as a pair, two free words; all of them out of `pool` words of this row.
    A small pool is for training alone: in it each word stands in many lines, so that only the pair tells them apart."""
    if pool == v.WORDS:
        return torch.cat((_distinct_pairs(g, rows, n, exact), _words(g, rows, n, 2)), -1)
    x = torch.cat((_distinct_pairs(g, rows, n, True, pool), v.WORD0 + _int(g, 0, pool, rows, n, 2)), -1)
    return _pooled(g, x, pool)


def _context(title, body):
    """<|begin|>, the title, and body [B, N, k] or [B, n]."""
    body = body.reshape(body.shape[0], -1)
    return torch.cat((_const(body, v.BEGIN, v.grammar(title)), body), 1)


def _uniform(ctx, inputs, answers, **more):
    """A batch whose turns all have inputs [B, T, i] and answers [B, T, a]."""
    t, i, a = inputs.shape[1], inputs.shape[2], answers.shape[2]
    tail = torch.cat((inputs, answers), -1).reshape(ctx.shape[0], -1)
    return Batch(ctx, tail, [(k * (i + a), i, a) for k in range(t)], **more)


def _weave(lines, lens, total):
    """Lines [B, N, k] of which the first lens [B, N] tokens count, joined to [B, total]."""
    b, _, k = lines.shape
    j = torch.arange(k, device=lines.device)
    at = (lens.cumsum(1) - lens)[..., None] + j
    at = torch.where(j < lens[..., None], at, total)
    out = lines.new_zeros(b, total + 1)
    return out.scatter_(1, at.reshape(b, -1), lines.reshape(b, -1))[:, :total]


def _noise(g, perm, taken, rows, n):
    """Noise lines [B, n, 6] out of the words perm[:, taken:]."""
    w = perm.gather(1, _int(g, taken, v.WORDS, rows, n * 5)).view(rows, n, 5) + v.WORD0
    return torch.cat((_const(w, NL), w), -1)


def kv(g, rows, n, turns, exact=True, pool=v.WORDS):
    k, val = _pair_lines(g, rows, n, exact, pool).split(2, -1)
    ctx = _context(" pairs", torch.cat((_const(k, NL), k, _const(k, EQ), val), -1))
    t = _perm(g, rows, n, turns)
    k, val = _pick(k, t), _pick(val, t)
    return _uniform(ctx, torch.cat((_const(k, NL, Q), k, _const(k, EQ)), -1), val)


def prefix_suffix(g, rows, n, turns, exact=True, pool=v.WORDS, prefixes=None):
    """For training alone: only `prefixes` different first words in a row and all suffixes different, so that the suffix
    must be looked up. Without such rows the model learns that a prefix is often the only one of its kind, and stops.
    Where there are not words enough, suffixes differ among the lines of one prefix."""
    if prefixes is None:
        ps, m = _pair_lines(g, rows, n, exact, pool).split(2, -1)
    elif n + prefixes > v.WORDS:
        names, line = _perm(g, rows, v.WORDS), _perm(g, rows, n)
        prefix, rank = line % prefixes, line // prefixes
        begin = _int(g, 0, v.WORDS, rows, prefixes).gather(1, prefix)
        ps = v.WORD0 + torch.stack((names.gather(1, prefix), names.gather(1, (begin + rank) % v.WORDS)), -1)
        m = _words(g, rows, n, 2)
    else:
        names = _perm(g, rows, v.WORDS, n + prefixes)
        first = names[:, n:].gather(1, _int(g, 0, prefixes, rows, n))
        ps, m = v.WORD0 + torch.stack((first, names[:, :n]), -1), _words(g, rows, n, 2)
    entry = torch.cat((ps[..., :1], m, ps[..., 1:]), -1)
    ctx = _context(" lists", torch.cat((_const(entry, NL), entry), -1))
    line = _perm(g, rows, n, turns)
    e = _pick(entry, line)
    ask = torch.cat((_const(e, NL, Q), e[..., :1], _const(e, v.grammar(" ..")), e[..., 3:], _const(e, EQ)), -1)
    return _uniform(ctx, ask, e, info={"line": line})


def vt(g, rows, n, turns, exact=True, more=0):
    """`more` chains than the grammar has, never asked for, is for training alone."""
    chains = max(2, turns) + more
    total = 3 * chains + n
    perm = _perm(g, rows, v.WORDS)
    names = v.WORD0 + perm[:, :3 * chains].view(rows, chains, 3)
    number = v.NUMBER0 + _perm(g, rows, v.NUMBERS, chains)
    lines = _noise(g, perm, 3 * chains, rows, total)
    lens = torch.full_like(lines[..., 0], 6)
    value = torch.cat((number[..., None], names[..., :2]), -1)          # what each name is said to be
    said = torch.stack((names, _const(names, IS, IS, IS), value), -1)   # [B, chains, 3, 3]
    said = torch.cat((_const(said, NL), said, _const(said, v.PAD, v.PAD)), -1).view(rows, -1, 6)
    slot = _perm(g, rows, total, 3 * chains).view(rows, chains, 3).sort(-1).values.view(rows, -1)
    lines.scatter_(1, slot[..., None].expand(-1, -1, 6), said)
    lens.scatter_(1, slot, 4)
    ctx = _context(" links", _weave(lines, lens, 12 * chains + 6 * n))
    t = _perm(g, rows, chains, turns)
    num, names = number.gather(1, t)[..., None], _pick(names, t)
    return _uniform(ctx, torch.cat((_const(num, NL, Q, IS), num), -1), names)


def passkey(g, rows, n, turns, exact=True, more=0):
    """`more` needles than turns is for training alone."""
    needles = turns + more
    perm = _perm(g, rows, v.WORDS)
    w = v.WORD0 + perm[:, :needles, None]
    number = v.NUMBER0 + _int(g, 0, v.NUMBERS, rows, needles, 1)
    lines = _noise(g, perm, needles, rows, needles + n)
    lens = torch.full_like(lines[..., 0], 6)
    say = v.grammar(" pass")
    slot = _perm(g, rows, needles + n, needles)
    needle = torch.cat((_const(w, NL, say), w, _const(w, EQ), number, _const(w, v.PAD)), -1)
    lines.scatter_(1, slot[..., None].expand(-1, -1, 6), needle)
    lens.scatter_(1, slot, 5)
    ctx = _context(" keys", _weave(lines, lens, 5 * needles + 6 * n))
    w, number = w[:, :turns], number[:, :turns]
    return _uniform(ctx, torch.cat((_const(w, NL, Q, say), w, _const(w, EQ)), -1), number)


def many_shot(g, rows, n, turns, exact=True, cues=CUES):
    """For training alone: `cues` below 64, so that short contexts are worth learning from."""
    perm = v.WORD0 + _perm(g, rows, v.WORDS)
    labels, fillers = perm[:, CUES:CUES + LABELS], perm[:, CUES + LABELS:]

    def line(cue):                                                       # [B, k] -> words [B, k, 4], the cue last
        k = cue.shape[1]
        w = fillers.gather(1, _int(g, 0, fillers.shape[1], rows, k * 3)).view(rows, k, 3)
        return torch.cat((w, perm.gather(1, cue)[..., None]), -1)

    def label(cue):
        return labels.gather(1, cue % LABELS)[..., None]

    cue = _perm(g, rows, n) % cues                                       # each cue as often as the others
    w = line(cue)
    ctx = _context(" shots", torch.cat((_const(w, NL), w, _const(w, EQ), label(cue)), -1))
    at = torch.arange(n, device=g.device)
    first = torch.full((rows, cues), n, device=g.device).scatter_reduce(1, cue, at.expand(rows, n), "amin")
    ask = _perm(g, rows, min(n, cues), turns)
    w = line(ask)
    return _uniform(ctx, torch.cat((_const(w, NL, Q), w, _const(w, EQ)), -1), label(ask),
                    extra_at=2 + 7 * at + 5, extra_ok=at > first.gather(1, cue))


def _mf_found(x):
    """[5][B, 1] what MF_ASKS ask of the numbers x [B, n]."""
    s = x.sort(1).values
    big, small = s[:, -1:], s[:, :1]
    big2 = torch.where(s < big, s, -1).amax(1, keepdim=True)
    small2 = torch.where(s > small, s, v.NUMBERS).amin(1, keepdim=True)
    return (big, small, torch.where(big2 < 0, big, big2), torch.where(small2 == v.NUMBERS, small, small2),
            s[:, (x.shape[1] - 1) // 2, None])


def mf(g, rows, n, turns, exact=True, order=None, stops=0):
    """`order`: which questions, as indices into MF_ASKS; turn order when left out. `stops`, for training alone: how often
    the list halts for the questions, about the numbers so far, and then goes on: more answers for the same reading."""
    order = list(range(turns)) if order is None else order
    lo, hi = _int(g, 0, 400, rows, 1), _int(g, 600, 1000, rows, 1)
    x = lo + (_rand(g, rows, n).double() * (hi - lo + 1)).long().clamp(max=(hi - lo))
    ends = [n * (k + 1) // (stops + 1) for k in range(stops + 1)]
    ctx = _context(" numbers", x[:, :ends[0]] + v.NUMBER0)
    parts, spans, start = [], [], 0
    for k, end in enumerate(ends):
        found = _mf_found(x[:, :end])
        for i in order:
            ask = [NL, Q] + [v.grammar(" " + w) for w in MF_ASKS[i].split()] + [EQ]
            parts += [_const(lo, *ask), found[i] + v.NUMBER0]
            spans.append((start, len(ask), 1))
            start += len(ask) + 1
        if k < stops:
            parts.append(x[:, end:ends[k + 1]] + v.NUMBER0)
            start += ends[k + 1] - end
    return Batch(ctx, torch.cat(parts, 1), spans, info={"order": order * (stops + 1)})


MAKERS = {"kv": kv, "prefix-suffix": prefix_suffix, "vt": vt, "mf": mf, "many-shot": many_shot, "passkey": passkey}


def make(task: str, g: torch.Generator, rows: int, length: int, turns: int, **more) -> Batch:
    """A batch with contexts of `length` tokens or a little less, <|begin|> counted."""
    n = items_for(task, length, turns) - -(-NEEDLE[task] * more.get("more", 0) // ITEM[task])
    if n < 1:
        raise ValueError(f"a {task} context of {length} tokens is too short for {turns} turns")
    return MAKERS[task](g, rows, n, turns, **more)
