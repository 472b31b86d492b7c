"""Error and speed of CUDA attention against cuDNN and FlashAttention-2 through PyTorch, in one process.

    python3 tools/gpu/bench.py LIBRARY OUT_DIR [--stages error,dense,lists,lines] [--lengths 8192,32768,131072] [--seconds 1.0]
                                [--minference DIRECTORY of its unpacked source archive] [--heads 32,8]

Writes OUT_DIR/STAGE.json: machine, driver, clocks, and per row the repeats with median, quartiles and extremes; prints a table.
Inputs are N(0, 1) in bf16, head_dim 128, four query heads per KV head; times are per call and per query head. Long lengths use
fewer heads, every rival the same. TFLOP/s count 4 * 128 per causal (query, key) pair, or per pair of a computed tile.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "python"))
import tessera_cuda  # noqa: E402

HEAD_DIM = 128
SEED = 20240


def smi(fields):
    try:
        text = subprocess.run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"], capture_output=True,
                              text=True, timeout=20).stdout
        return text.strip().splitlines()[0]
    except Exception as error:  # the figures stand without it
        return f"not read: {error}"


def commit():
    """Of the tree that this file is in; null where it is a copy without history."""
    try:
        described = subprocess.run(["git", "-C", os.path.dirname(os.path.abspath(__file__)), "describe", "--always", "--dirty"],
                                   capture_output=True, text=True, check=True)
        return described.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def machine():
    return {"commit": commit(), "gpu": torch.cuda.get_device_name(),
            "driver_and_clocks": smi("driver_version,clocks.sm,clocks.mem,power.draw"), "torch": torch.__version__, "cudnn": torch.backends.cudnn.version(), "seed": SEED}


HEADS = None  # for all lengths


def heads_for(length):
    return HEADS or (32, 8) if length <= 32768 else (8, 2) if length <= 131072 else (4, 1)


def timed_in_turn(calls, seconds):
    """Milliseconds of each repeat of each call, in turn, since the card slows down as it warms up; after at least two calls of
    the first, which says how many repeats fill `seconds`: 3 to 50."""
    call = calls[0]
    call()
    torch.cuda.synchronize()
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    stop.record()
    torch.cuda.synchronize()
    count = max(3, min(50, int(seconds * 1000 / max(start.elapsed_time(stop), 1e-3))))
    events = [[tuple(torch.cuda.Event(enable_timing=True) for _ in range(2)) for _ in calls] for _ in range(count)]
    for turn in events:
        for call, (begin, end) in zip(calls, turn):
            begin.record()
            call()
            end.record()
    torch.cuda.synchronize()
    return [[begin.elapsed_time(end) for begin, end in found] for found in zip(*events)]


def timed(call, seconds):
    """Milliseconds of each repeat of one call."""
    return timed_in_turn([call], seconds)[0]


def row(name, times, flop, heads, **more):
    quartiles = statistics.quantiles(times, n=4)
    median = statistics.median(times)
    result = {"name": name, "ms": median, "ms_per_head": median / heads, "tflops": flop / median / 1e9, "heads": heads,
              "ms_quartiles": [quartiles[0], quartiles[2]], "ms_extremes": [min(times), max(times)], "repeats": len(times),
              "clocks_after": smi("clocks.sm,power.draw"), **more}
    print(f"{name:44s} {median / heads:9.4f} ms/head {result['tflops']:7.1f} TFLOP/s  [{min(times) / heads:.4f} .. "
          f"{max(times) / heads:.4f}] x{len(times)}", flush=True)
    return result


class Inputs:
    def __init__(self, length, heads, kv_heads, head_dim=HEAD_DIM):
        torch.manual_seed(SEED)
        make = lambda h: torch.randn(length, h, head_dim, device="cuda", dtype=torch.bfloat16)
        self.q, self.k, self.v = make(heads), make(kv_heads), make(kv_heads)
        self.out = torch.empty_like(self.q)
        self.lse = torch.empty(length, heads, device="cuda", dtype=torch.float32)

    def ours(self):
        return self.q, self.k, self.v, self.out, self.lse

    def rival(self, backend):
        """A call of PyTorch's attention on the same tensors, [1, heads, rows, head_dim] views; None when it refuses."""
        q, k, v = (t.transpose(0, 1).unsqueeze(0) for t in (self.q, self.k, self.v))
        group = q.shape[1] // k.shape[1]

        def grouped():
            with sdpa_kernel([backend]):
                return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

        try:
            grouped()
            return grouped
        except RuntimeError:
            pass
        wide_k, wide_v = (t.repeat_interleave(group, dim=1) for t in (k, v))

        def expanded():
            with sdpa_kernel([backend]):
                return torch.nn.functional.scaled_dot_product_attention(q, wide_k, wide_v, is_causal=True)

        try:
            expanded()
            return expanded
        except RuntimeError as error:
            print(f"# {backend}: {error}")
            return None


def scratch_for(library, inputs, work=None):
    return torch.empty(library.workspace_bytes(*inputs.ours(), work=work), device="cuda", dtype=torch.uint8)


def stream():
    return torch.cuda.current_stream().cuda_stream


def stage_error(library, options):
    rows = []
    for length in (512, 1000, 2048):
        inputs = Inputs(length, 8, 2)
        q, k, v = (t.double().transpose(0, 1) for t in (inputs.q, inputs.k, inputs.v))
        k, v = k.repeat_interleave(4, 0), v.repeat_interleave(4, 0)
        scores = (q @ k.transpose(1, 2)) / math.sqrt(HEAD_DIM)
        scores.masked_fill_(torch.ones(length, length, device="cuda", dtype=torch.bool).triu(1), -math.inf)
        lse = scores.logsumexp(-1).transpose(0, 1)
        exact = (scores.softmax(-1) @ v).transpose(0, 1)
        library.attend_dense(*inputs.ours(), scratch=scratch_for(library, inputs), stream=stream())
        error = lambda found: ((found.double() - exact).norm() / exact.norm()).item()
        flash = inputs.rival(SDPBackend.FLASH_ATTENTION)()[0].transpose(0, 1)
        ours, theirs = error(inputs.out), error(flash)
        lse_error = (inputs.lse.double() - lse).abs().max().item()
        good = ours <= 1.5 * theirs and lse_error < 1e-3
        rows.append({"length": length, "out_error": ours, "flash_error": theirs, "lse_error": lse_error, "good": good})
        print(rows[-1], flush=True)
    return rows


def stage_dense(library, options):
    rows = []
    for length in options.lengths:
        heads, kv_heads = heads_for(length)
        inputs = Inputs(length, heads, kv_heads)
        scratch = scratch_for(library, inputs)
        flop = 4 * HEAD_DIM * heads * length * (length + 1) / 2
        calls = {"tessera": lambda: library.attend_dense(*inputs.ours(), scratch=scratch, stream=stream())}
        for name, backend in (("cudnn", SDPBackend.CUDNN_ATTENTION), ("flash2", SDPBackend.FLASH_ATTENTION)):
            rival = inputs.rival(backend)
            if rival:
                calls[name] = rival
        for name, call in calls.items():
            rows.append(row(f"dense {length} {name}", timed(call, options.seconds), flop, heads, length=length,
                            who=name))
        del calls
        torch.cuda.empty_cache()
    return rows


def lists_of(masks, key_tile, length):
    """Per head a bool matrix [query tile][key tile] on the GPU -> (tile_begin, tiles), ascending, with the mask flag set."""
    counts, tiles = [], []
    for mask in masks:
        query, key = mask.nonzero(as_tuple=True)
        end = (key + 1) * key_tile
        masked = (end > length) | (end > query * 128 + 1)
        tiles.append(torch.where(masked, key - 2**31, key).to(torch.int32))
        counts.append(mask.sum(1))
    begin = torch.nn.functional.pad(torch.cat(counts).cumsum(0), (1, 0)).to(torch.int32)
    return begin, torch.cat(tiles)


def causal_tiles(length, key_tile):
    query_tiles, key_tiles = (length + 127) // 128, (length + key_tile - 1) // key_tile
    first_key = torch.arange(key_tiles, device="cuda") * key_tile
    last_query = torch.arange(query_tiles, device="cuda") * 128 + 127
    return first_key[None, :] <= last_query[:, None]


def stage_lists(library, options):
    """Random tiles at 5 % density (and the last visible one): the rate per computed tile."""
    rows = []
    for length in options.lengths:
        heads, kv_heads = heads_for(length)
        inputs = Inputs(length, heads, kv_heads)
        for key_tile in (128, 64):
            generator = torch.Generator(device="cuda").manual_seed(SEED)
            causal = causal_tiles(length, key_tile)
            last = causal.sum(1) - 1

            def masks():
                for _ in range(heads):
                    mask = causal & (torch.rand(causal.shape, generator=generator, device="cuda") < 0.05)
                    mask[torch.arange(len(last), device="cuda"), last] = True
                    yield mask

            begin, tiles = lists_of(masks(), key_tile, length)
            work = tessera_cuda.WorkList(begin, tiles, list_heads=heads, query_tiles=len(last), key_tile=key_tile)
            scratch = scratch_for(library, inputs, work)
            flop = 4 * HEAD_DIM * 128 * key_tile * tiles.numel()
            call = lambda: library.attend(*inputs.ours(), work, scratch=scratch, stream=stream())
            rows.append(row(f"lists {length} 128x{key_tile} 5%", timed(call, options.seconds), flop, heads, length=length,
                            key_tile=key_tile, tiles=tiles.numel()))
    return rows


def minference_lines(length, generator):
    """One head of (1000, 6096): distances (4,064 nearest, 64 runs of 32) as a mask, 30 sinks + 970 random columns."""
    distances = torch.zeros(length + 256, dtype=torch.bool)
    distances[:4064] = True
    for start in torch.randint(4064, length - 32, (64,), generator=generator).tolist():
        distances[start:start + 32] = True
    random = torch.randperm(length - 30, generator=generator)[:970] + 30
    return distances, torch.cat([torch.arange(30), random]).sort().values


def diagonal_tiles(distances, length, key_tile):
    """Bool matrix [query tile of 128][key tile]: the tile holds a wanted distance."""
    per_query = 128 // key_tile
    query_tiles = (length + 127) // 128
    key_tiles = query_tiles * per_query
    counts = torch.cat([torch.zeros(1, dtype=torch.long), distances.long().cumsum(0)])
    # By step = per_query * query tile - key tile, from 1 - per_query: the distances of a tile.
    base = torch.arange(1 - per_query, key_tiles) * key_tile
    low, high = (base - key_tile + 1).clamp(min=0), (base + 128).clamp(min=0, max=len(distances))
    near = (counts[high] > counts[low]).cuda()
    step = per_query * torch.arange(query_tiles, device="cuda")[:, None] - torch.arange(key_tiles, device="cuda")[None, :]
    step += per_query - 1
    return near[step.clamp(min=0)] & (step >= 0)


def bands_of(distances, length):
    """Entries of DeviceWorkList::bands that cover the diagonals, and how many of them each query tile uses."""
    kept = distances[:length].nonzero().flatten()
    gaps = kept.diff(prepend=torch.tensor([-1000])) >= 127 + 32
    first, last = kept[gaps], kept[torch.cat([gaps[1:], torch.tensor([True])])]
    entries = torch.cat([torch.arange(a, b + 128, 32) for a, b in zip(first.tolist(), last.tolist())])
    ends = torch.arange(1, (length + 127) // 128 + 1) * 128 - 1
    return entries, torch.searchsorted(entries, ends, right=True)


def choosing_and(call, library, inputs, bands):
    """Estimate, choice of 1,000 columns and 6,096 distances, making of the lists, then `call`."""
    options = library.options("vertical_slash", vertical=1000, slash=6096, bands=int(bands))
    size = library.selection_bytes(*inputs.ours(), options, attend=False)
    scratch = torch.empty(size, dtype=torch.uint8, device="cuda")

    def everything():
        library.select(*inputs.ours(), options, scratch=scratch, stream=stream())
        call()

    return everything


def minference_row(attention, inputs, lines, length, seconds, flop):
    """MInference's own kernels on the same lines; they know no grouped heads, so keys and values are repeated beforehand."""
    heads = len(lines)
    q, k, v = (t.transpose(0, 1).unsqueeze(0).contiguous() for t in (inputs.q, inputs.k, inputs.v))
    k, v = (t.repeat_interleave(heads // t.shape[1], dim=1) for t in (k, v))
    columns = torch.stack([c for _, c in lines]).unsqueeze(0).to(torch.int32).cuda()
    chosen = [d.nonzero().flatten() for d, _ in lines]
    most = max(len(c) for c in chosen)  # runs may overlap: the longest distance fills up
    distances = torch.stack([torch.nn.functional.pad(c, (0, most - len(c)), value=int(c[-1])) for c in chosen])
    distances = distances.unsqueeze(0).to(torch.int32).cuda()
    call = lambda: attention(q, k, v, columns, distances)
    out = call()[0].transpose(0, 1)
    difference = ((out - inputs.out).float().norm() / inputs.out.float().norm()).item()
    return row(f"lines {length} minference", timed(call, seconds), flop, heads, length=length, who="minference 0.1.6.0, Triton",
               difference_from_ours=difference)


def stage_lines(library, options):
    """MInference's (1000, 6096) lines: tiles or bands of the diagonals plus 1,000 columns; planning and gathering included."""
    rows = []
    for length in options.lengths:
        if length < 16384:
            continue
        heads, kv_heads = heads_for(length)
        inputs = Inputs(length, heads, kv_heads)
        query_tiles = (length + 127) // 128
        generator = torch.Generator().manual_seed(SEED)
        lines = [minference_lines(length, generator) for _ in range(heads)]
        ends = torch.arange(1, query_tiles + 1) * 128
        to_gpu = lambda x: x.to(torch.int32).cuda().contiguous()
        columns = to_gpu(torch.stack([torch.nn.functional.pad(c, (0, 24)) for _, c in lines]))
        cuts = to_gpu(torch.cat([torch.searchsorted(c, ends) for _, c in lines]))
        count = torch.full((heads,), 1000, dtype=torch.int32, device="cuda")
        for key_tile in (128, 64):
            begin, tiles = lists_of((diagonal_tiles(d, length, key_tile) for d, _ in lines), key_tile, length)
            work = tessera_cuda.WorkList(begin, tiles, list_heads=heads, query_tiles=query_tiles, key_tile=key_tile,
                                         columns=columns, column_count=count, column_cut=cuts, column_stride=1024)
            scratch = scratch_for(library, inputs, work)
            flop = 4 * HEAD_DIM * 128 * (key_tile * tiles.numel() + cuts.sum().item())
            call = lambda: library.attend(*inputs.ours(), work, scratch=scratch, stream=stream())
            rows.append(row(f"lines {length} (1000, 6096) 128x{key_tile}", timed(call, options.seconds), flop, heads,
                            length=length, key_tile=key_tile, tiles=tiles.numel(),
                            list_bytes=4 * (tiles.numel() + begin.numel() + columns.numel() + cuts.numel()),
                            scratch_bytes=scratch.numel()))
            if key_tile == 64:
                everything = choosing_and(call, library, inputs, False)
                rows.append(row(f"lines {length} everything 128x{key_tile}", timed(everything, options.seconds), flop, heads,
                                length=length, key_tile=key_tile, choosing="vertical_slash(1000, 6096)"))
                del everything
                if options.minference:
                    rows.append(minference_row(options.minference, inputs, lines, length, options.seconds, flop))
            torch.cuda.empty_cache()
        covers = [bands_of(d, length) for d, _ in lines]
        room = max(len(e) for e, _ in covers)
        bands = to_gpu(torch.stack([torch.nn.functional.pad(e, (0, room - len(e))) for e, _ in covers]))
        band_cuts = to_gpu(torch.cat([c for _, c in covers]))
        work = tessera_cuda.WorkList(bands=bands, band_cut=band_cuts, band_stride=room, list_heads=heads, key_tile=32,
                                     query_tiles=query_tiles, columns=columns, column_count=count, column_cut=cuts,
                                     column_stride=1024)
        scratch = scratch_for(library, inputs, work)
        flop = 4 * HEAD_DIM * 128 * (32 * band_cuts.sum().item() + cuts.sum().item())
        call = lambda: library.attend(*inputs.ours(), work, scratch=scratch, stream=stream())
        rows.append(row(f"lines {length} (1000, 6096) bands", timed(call, options.seconds), flop, heads, length=length,
                        key_tile=32, tiles=band_cuts.sum().item(),
                        list_bytes=4 * (bands.numel() + band_cuts.numel() + columns.numel() + cuts.numel()),
                        scratch_bytes=scratch.numel()))
        everything = choosing_and(call, library, inputs, True)
        rows.append(row(f"lines {length} everything bands", timed(everything, options.seconds), flop, heads, length=length,
                        key_tile=32, choosing="vertical_slash(1000, 6096), bands"))
        del everything, call
        torch.cuda.empty_cache()
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library")
    parser.add_argument("out")
    parser.add_argument("--stages", default="error,dense,lists,lines")
    parser.add_argument("--lengths", default="8192,32768,131072")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--minference")
    parser.add_argument("--heads", help="query heads, KV heads; otherwise fewer for long lengths")
    options = parser.parse_args()
    if options.heads:
        global HEADS
        HEADS = tuple(int(x) for x in options.heads.split(","))
    if options.minference:
        import rivals
        options.minference = rivals.minference(options.minference)
    options.lengths = [int(x) for x in options.lengths.split(",")]
    library = tessera_cuda.Library(os.path.abspath(options.library))
    os.makedirs(options.out, exist_ok=True)
    failed = False
    for stage in options.stages.split(","):
        rows = globals()[f"stage_{stage}"](library, options)
        failed = failed or any(r.get("good") is False for r in rows)
        path = os.path.join(options.out, f"{stage}.json")
        with open(path + ".part", "w") as file:
            json.dump({"machine": machine(), "rows": rows}, file, indent=1)
        os.replace(path + ".part", path)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
