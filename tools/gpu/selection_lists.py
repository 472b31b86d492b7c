"""What the selection programs share: planted inputs, and lists read back from scratch memory."""

import math

import torch


class Case:
    """q, k, v with outputs. `sharp` > 0 plants structure: per KV head columns that all queries like, and keys that repeat at a
    few distances (rotated positions), over noise; 0 gives N(0, 1)."""

    def __init__(self, query_rows, key_rows, heads, kv_heads, *, head_dim=128, dtype=torch.bfloat16, sharp=0.0, seed=1):
        generator = torch.Generator(device="cuda").manual_seed(seed)
        make = lambda n, h: torch.randn(n, h, head_dim, device="cuda", generator=generator)
        q, k, v = make(query_rows, heads), make(key_rows, kv_heads), make(key_rows, kv_heads)
        if sharp > 0:
            q, k = plant(q, k, sharp, generator)
        self.q, self.k, self.v = q.to(dtype), k.to(dtype), v.to(dtype)
        self.out = torch.full_like(self.q, float("nan"))
        self.lse = torch.full((query_rows, heads), float("nan"), device="cuda")
        self.query_rows, self.key_rows, self.heads, self.group = query_rows, key_rows, heads, heads // kv_heads

    def all(self):
        return self.q, self.k, self.v, self.out, self.lse


def plant(q, k, sharp, generator):
    """Half of the channels carry positions: pairs of them rotate with frequencies of RoPE, so q.k has a peak at wanted distances;
    one channel carries columns. Returns q and k whose scores / sqrt(d) reach about `sharp` above the noise."""
    rows, heads, d = q.shape
    key_rows, kv_heads, _ = k.shape
    device = q.device
    half = d // 4
    frequency = 10000.0 ** (-torch.arange(half, device=device) / half)
    angle = lambda positions: positions[:, None] * frequency[None]
    first = key_rows - rows
    root = d ** 0.5
    # Distances per query head: the own row, and one far away.
    far = torch.randint(256, max(257, key_rows // 2), (heads,), generator=torch.Generator().manual_seed(7)).tolist()
    key_angle = angle(torch.arange(key_rows, device=device, dtype=torch.float32))
    weight = math.sqrt(sharp * root / (2 * half) * 1.5)
    k[:, :, :half] = (weight * torch.cos(key_angle))[:, None]
    k[:, :, half:2 * half] = (weight * torch.sin(key_angle))[:, None]
    for h in range(heads):
        total = torch.zeros(rows, 2 * half, device=device)
        for distance, share in ((0.0, 1.0), (float(far[h]), 1.0)):
            at = angle(torch.arange(first, key_rows, device=device, dtype=torch.float32) - distance)
            total += share * weight * torch.cat([torch.cos(at), torch.sin(at)], 1)
        q[:, h, :2 * half] = total
    column = torch.zeros(key_rows, kv_heads, device=device)
    picks = torch.randint(0, key_rows, (24, kv_heads), device=device, generator=generator)
    column.scatter_(0, picks, 1.0)
    column[:4] = 1.0
    q[:, :, -1] = math.sqrt(sharp * root) * 1.1
    k[:, :, -1] = column * math.sqrt(sharp * root) * 1.1
    return q, k


def taken(scratch, selected, name, count, dtype):
    at = selected.offset(name)
    return scratch[at:at + count * 4].view(dtype).clone()


class Lists:
    """Host copies: per head and query tile the key tiles, and the columns with their cuts."""

    def __init__(self, case, selected, scratch):
        work = selected.c.work
        self.key_tile, self.tiles_per_head = work.key_tile, work.query_tiles
        lists = case.heads * work.query_tiles
        self.begin = taken(scratch, selected, "tile_begin", lists + 1, torch.int32)
        self.entries = taken(scratch, selected, "tiles", int(self.begin[-1]), torch.int32)
        self.overflow = int(taken(scratch, selected, "overflow", 1, torch.int32)[0])
        self.columns = self.cut = None
        if work.column_stride > 0:
            self.columns = taken(scratch, selected, "columns", case.heads * work.column_stride,
                                 torch.int32).view(case.heads, -1)
            self.count = taken(scratch, selected, "column_count", case.heads, torch.int32)
            self.cut = taken(scratch, selected, "column_cut", lists, torch.int32).view(case.heads, -1)

    def key_tiles(self, head, tile):
        at = head * self.tiles_per_head + tile
        return self.entries[self.begin[at]:self.begin[at + 1]] & 0x00ffffff

    def computed_tiles(self):
        """In units of 128 x 128, columns in groups of a key tile."""
        total = self.entries.numel() * self.key_tile / 128
        if self.cut is not None:
            total += (self.cut.double() / self.key_tile).ceil().sum().item() * self.key_tile / 128
        return total

    def kept(self, case, head, rows=None):
        """Which (query row, key row) pairs of a head are computed, causality applied; of some query rows."""
        rows = torch.arange(case.query_rows, device="cuda") if rows is None else rows
        first = case.key_rows - case.query_rows
        keys = torch.arange(case.key_rows, device="cuda")
        mask = torch.zeros(len(rows), case.key_rows, dtype=torch.bool, device="cuda")
        for tile in torch.unique(rows // 128).tolist():
            here = torch.zeros((case.key_rows + self.key_tile - 1) // self.key_tile, dtype=torch.bool, device="cuda")
            here[self.key_tiles(head, tile).long()] = True
            line = here[keys // self.key_tile]
            if self.cut is not None:
                line[self.columns[head, :int(self.cut[head, tile])].long()] = True
            mask[rows // 128 == tile] = line
        return mask & (keys[None] <= (rows + first)[:, None])


def scores_of(case, head, rows, dtype=torch.float64):
    """Scaled scores of some query rows, -inf where a key is not visible."""
    first = case.key_rows - case.query_rows
    q, k = case.q[rows, head].to(dtype), case.k[:, head // case.group].to(dtype)
    scores = q @ k.T / math.sqrt(q.shape[1])
    hidden = torch.arange(case.key_rows, device="cuda")[None] > (rows + first)[:, None]
    return scores.masked_fill_(hidden, -math.inf)
