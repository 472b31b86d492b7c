"""How far heads rest: the attention mass of context rows on the first row and the last few rows before them.

A head that finds nothing should put its mass on the first row, as heads of large models do, and not on words anywhere;
only then is an attention method that looks for a few rows with nearly all mass cheap. Training measures it on a few rows of
every unit, in fp32, and adds what is missing to the loss. As a program it reports, per head, the mass elsewhere:

    python tools/nano/rest.py models/nano --length 32768
"""
import argparse
from pathlib import Path

import torch

WINDOW = 64        # rows that count as near, the row itself included
MARGIN = 0.005     # of -log(mass): nothing is gained beyond this


def missing(q, k, rows):
    """-log of the mass of query rows `rows` [R] on row 0 and the WINDOW rows up to each; q [B, H, T, d], k [B, G, T, d];
    mean over B and R: [H]."""
    b, h, t, d = q.shape
    with torch.autocast(q.device.type, enabled=False):
        some = q.index_select(2, rows).float().view(b, k.shape[1], -1, rows.shape[0], d)
        score = torch.einsum("bghrd,bgtd->bghrt", some, k.float()) * d ** -0.5
        at = torch.arange(t, device=q.device)
        back = rows[:, None] - at
        seen = score.masked_fill(back < 0, float("-inf"))
        near = (back >= 0) & ((back < WINDOW) | (at == 0))
        gap = seen.logsumexp(-1) - seen.masked_fill(~near, float("-inf")).logsumexp(-1)
        return (gap - MARGIN).clamp(min=0).mean((0, 3)).flatten()


@torch.no_grad()
def report(model, device, length, rows=256, seed=0):
    """[layers][heads] -log(mass near or on row 0), less MARGIN, of one text of random tokens."""
    import vocab
    g = torch.Generator(device=device).manual_seed(seed)
    ids = torch.randint(0, vocab.SIZE, (1, length), generator=g, device=device)
    ids[:, 0] = vocab.BEGIN
    at = torch.randint(length // 8, length, (rows,), generator=g, device=device)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        return model(ids, at)[1].tolist()


def table(found):
    """One line per layer: percent of the mass elsewhere, head by head."""
    import math
    return "\n".join(f"layer {i}: " + " ".join(f"{100 - 100 * math.exp(-x):5.1f}" for x in layer)
                     for i, layer in enumerate(found))


def main():
    from evaluate import load_model
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("model", type=Path)
    ap.add_argument("--length", type=int, default=32768)
    args = ap.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"percent of the mass elsewhere, per head, on {args.length} random tokens")
    print(table(report(load_model(args.model).to(device), device, args.length)))


if __name__ == "__main__":
    main()
