"""Tells single heads which row to look at: a loss on the attention itself, for a look-up that the answers alone do not teach.

prefix-suffix's answer begins with the prefix, and there the next word hangs on the suffix, which stands *behind* that word in
its line. Weights that look up what followed the prefix are in the way of finding the other circuit, which takes three steps:

  1. at the suffix of a line, fetch the line's second word, two rows back;
  2. at the first word of the answer, fetch the question's suffix, two rows back;
  3. there, with that suffix (and the prefix, which is the row itself), find the line's suffix and read what it fetched.

Step 3 lies one layer above the others. The heads are spare ones of models/nano: of the four heads of layer 3 all did the same
look-up, the first two share keys in which places can be told, and those of layer 4 did little. New weights learned it as
quickly, with a head of layer 2 for step 1.
"""
from dataclasses import dataclass

import torch

FETCH_WORD, FETCH_SUFFIX, FIND = (3, (0,)), (3, (1,)), (4, (0, 1))     # (layer, heads) of the steps
ROWS = 64                       # lines of a context whose step 1 is measured


@dataclass
class Guide:
    layer: int
    heads: tuple
    rows: torch.Tensor          # [R] query rows
    targets: torch.Tensor       # [B, R] or [1, R] the row each shall look at


def astray(q, k, guide):
    """-log of the mass that guide's heads put on their targets, mean; q [B, H, T, d], k [B, G, T, d]."""
    b, h, t, d = q.shape
    with torch.autocast(q.device.type, enabled=False):
        heads = list(guide.heads)
        some = q[:, heads].index_select(2, guide.rows).float()
        keys = k[:, [i * k.shape[1] // h for i in heads]].float()
        score = torch.einsum("bhrd,bhtd->bhrt", some, keys) * d ** -0.5
        later = torch.arange(t, device=q.device) > guide.rows[:, None]
        score = score.masked_fill(later, float("-inf"))
        at = guide.targets[:, None, :, None].expand(b, len(heads), -1, 1)
        return (score.logsumexp(-1) - score.gather(-1, at)[..., 0]).mean()


def prefix_suffix(rng, batch, device, place):
    """The three guides of a batch; `place` makes a tensor of row numbers on the device."""
    c, n = batch.ctx.shape[1], (batch.ctx.shape[1] - 2) // 5
    ends = place([6 + 5 * rng.randrange(n) for _ in range(ROWS)], device)
    first = place([c + s + i for s, i, _ in batch.spans], device)
    return [Guide(*FETCH_WORD, ends, ends[None] - 2), Guide(*FETCH_SUFFIX, first, first[None] - 2),
            Guide(*FIND, first, 6 + 5 * batch.info["line"])]
