"""Speed of CUDA decode at long context against PyTorch's attention and the copy bandwidth, in one process.

    python3 tools/gpu/decode_bench.py LIBRARY OUT_DIR [--length 131072] [--repeats 30] [--rivals 1] [--flashinfer 0]

Batch 1, 32 query heads, 8 KV heads, head_dim 128, inputs N(0, 1) in bf16, pages of 64 rows in a shuffled order. Every figure is
the time of one step in a CUDA graph of four steps over four caches, together larger than the L2 cache, also with selected pages.
Bytes are those of the pages, parameters included, that a step reads (and of the bounds, with a selection). The copy is one of
1 GiB, read and written bytes counted. Writes OUT_DIR/decode.json and prints a table.
"""

import argparse
import json
import math
import os
import statistics
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "python"))
sys.path.insert(0, HERE)
import tessera_cuda_decode  # noqa: E402
from bench import machine, smi  # noqa: E402

HEADS, KV_HEADS, HEAD_DIM, PAGE = 32, 8, 128, 64
CACHES = 4
SEED = 77


def stream():
    return torch.cuda.current_stream().cuda_stream


def graph_times(steps, repeats):
    """Milliseconds per step of each replay of a graph of the steps; in eager mode when they refuse capture."""
    for step in steps:
        step()
    torch.cuda.synchronize()
    mode = "graph"
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for step in steps:
                step()
        run = graph.replay
    except RuntimeError as error:
        torch.cuda.synchronize()
        mode = f"eager ({str(error).splitlines()[0][:80]})"
        run = lambda: [step() for step in steps]
    for _ in range(5):
        run()
    events = [tuple(torch.cuda.Event(enable_timing=True) for _ in range(2)) for _ in range(repeats)]
    for begin, end in events:
        begin.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) / len(steps) for begin, end in events], mode


class Report:
    def __init__(self, repeats):
        self.repeats, self.rows, self.copy = repeats, [], None

    def add(self, name, steps, byte_count, **more):
        times, mode = graph_times(steps, self.repeats)
        median = statistics.median(times)
        quartiles = statistics.quantiles(times, n=4)
        rate = byte_count / median / 1e6
        row = {"name": name, "us": 1000 * median, "us_quartiles": [1000 * quartiles[0], 1000 * quartiles[2]],
               "us_extremes": [1000 * min(times), 1000 * max(times)], "repeats": len(times), "bytes": byte_count, "gb_s": rate,
               "of_copy": rate / self.copy if self.copy else None, "mode": mode, "clocks_after": smi("clocks.sm,clocks.mem"),
               **more}
        self.rows.append(row)
        share = f"{100 * row['of_copy']:5.1f} % of copy" if self.copy else ""
        print(f"{name:34s} {row['us']:9.2f} us  [{row['us_extremes'][0]:.2f} .. {row['us_extremes'][1]:.2f}] {rate:7.0f} GB/s "
              f"{share} {mode if mode != 'graph' else ''}", flush=True)
        return row


def copy_bandwidth(report):
    gib = 1 << 30
    pairs = [(torch.empty(gib, dtype=torch.uint8, device="cuda").random_(), torch.empty(gib, dtype=torch.uint8, device="cuda"))
             for _ in range(2)]
    row = report.add("copy 1 GiB", [lambda a=a, b=b: b.copy_(a) for a, b in pairs], 2 * gib)
    report.copy = row["gb_s"]


class Caches:
    """CACHES caches of one format, filled from random rows, each with its own shuffled table."""

    def __init__(self, library, format, length):
        self.library, self.length = library, length
        self.pages = (length + PAGE - 1) // PAGE
        self.key, self.value, self.bounds = library.page_bytes(format, HEAD_DIM)
        generator = torch.Generator(device="cuda").manual_seed(SEED)
        lengths = torch.tensor([length], dtype=torch.int32, device="cuda")
        self.caches, self.tensors = [], []
        self.q = [torch.randn(1, HEADS, HEAD_DIM, device="cuda", generator=generator).bfloat16() for _ in range(CACHES)]
        for _ in range(CACHES):
            pools = [torch.zeros(self.pages * KV_HEADS * size, dtype=torch.uint8, device="cuda")
                     for size in (self.key, self.value, self.bounds)]
            order = torch.randperm(self.pages, device="cuda", generator=generator).to(torch.int32)
            cache = tessera_cuda_decode.Cache(format, kv_heads=KV_HEADS, head_dim=HEAD_DIM, keys=pools[0], values=pools[1],
                                              bounds=pools[2], table=order.view(1, 1, -1), lengths=lengths)
            k, v = (torch.randn(1, length, KV_HEADS, HEAD_DIM, device="cuda", generator=generator).bfloat16() for _ in range(2))
            library.write_pages(k, v, cache, stream=stream())
            torch.cuda.synchronize()
            self.caches.append(cache)
            self.tensors.append((pools, order, lengths))
            if len(self.caches) == 1:
                self.first_rows = (k, v)
        self.out = torch.empty(1, HEADS, HEAD_DIM, device="cuda", dtype=torch.bfloat16)
        self.lse = torch.empty(1, HEADS, device="cuda")

    def steps(self, selected_pages=0):
        scratch = torch.empty(self.library.workspace_bytes(self.q[0], self.out, self.lse, self.caches[0],
                                                           selected_pages=selected_pages), dtype=torch.uint8, device="cuda")
        return [lambda q=q, cache=cache: self.library.decode(q, self.out, self.lse, cache, scratch=scratch, stream=stream(),
                                                             selected_pages=selected_pages)
                for q, cache in zip(self.q, self.caches)]

    def bytes(self, selected_pages=0):
        if selected_pages == 0:
            return KV_HEADS * self.pages * (self.key + self.value)
        return KV_HEADS * (selected_pages * (self.key + self.value) + self.pages * self.bounds)

    def error(self):
        """Against fp64 attention over the bf16 rows: what the format costs, on random data."""
        k, v = (t[0].transpose(0, 1) for t in self.first_rows)
        group = HEADS // KV_HEADS
        exact = torch.empty(HEADS, HEAD_DIM, dtype=torch.float64, device="cuda")
        lse = torch.empty(HEADS, dtype=torch.float64, device="cuda")
        for h in range(HEADS):
            scores = k[h // group].double() @ self.q[0][0, h].double() / math.sqrt(HEAD_DIM)
            exact[h] = scores.softmax(0) @ v[h // group].double()
            lse[h] = scores.logsumexp(0)
        self.steps()[0]()
        torch.cuda.synchronize()
        return {"out_error": ((self.out[0].double() - exact).norm() / exact.norm()).item(),
                "lse_error": (self.lse[0].double() - lse).abs().max().item()}


def ours(report, library, length):
    selected = max(4, (length + PAGE - 1) // PAGE // 16)
    for format in tessera_cuda_decode.FORMATS:
        caches = Caches(library, format, length)
        dense = report.add(f"tessera {format}", caches.steps(), caches.bytes(), who="tessera", format=format, selected_pages=0,
                           **caches.error())
        print(f"{'':34s} out error {dense['out_error']:.2e}, lse error {dense['lse_error']:.1e}", flush=True)
        some = report.add(f"tessera {format}, 1/16 of pages", caches.steps(selected), caches.bytes(selected), who="tessera",
                          format=format, selected_pages=selected, forced_pages=3)
        some["times_dense_speed"] = dense["us"] / some["us"]
        print(f"{'':34s} {some['times_dense_speed']:.2f} x the dense speed", flush=True)
        del caches
        torch.cuda.empty_cache()


def rivals(report, length):
    generator = torch.Generator(device="cuda").manual_seed(SEED)
    make = lambda heads, rows: torch.randn(1, heads, rows, HEAD_DIM, device="cuda", generator=generator).bfloat16()
    sets = [(make(HEADS, 1), make(KV_HEADS, length), make(KV_HEADS, length)) for _ in range(CACHES)]
    byte_count = 2 * 2 * KV_HEADS * length * HEAD_DIM
    for name, backend in (("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION),
                          ("efficient", SDPBackend.EFFICIENT_ATTENTION)):
        def step(q, k, v, backend=backend):
            with sdpa_kernel([backend]):
                return torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        try:
            report.add(f"PyTorch SDPA {name}, bf16", [lambda s=s: step(*s) for s in sets], byte_count, who=name)
        except RuntimeError as error:
            print(f"PyTorch SDPA {name}: {str(error).splitlines()[0]}", flush=True)
            report.rows.append({"name": f"PyTorch SDPA {name}, bf16", "who": name, "refused": str(error).splitlines()[0]})


def flashinfer(report, length):
    import rivals as packages
    generator = torch.Generator(device="cuda").manual_seed(SEED)
    pages = (length + PAGE - 1) // PAGE
    steps, outs = [], []
    for _ in range(CACHES):
        q = torch.randn(1, HEADS, HEAD_DIM, device="cuda", generator=generator).bfloat16()
        k, v = (torch.randn(pages, PAGE, KV_HEADS, HEAD_DIM, device="cuda", generator=generator).bfloat16() for _ in range(2))
        order = torch.randperm(pages, device="cuda", generator=generator).to(torch.int32)
        steps.append(packages.flashinfer_decode(q, k, v, order, length))
        rows = lambda x: x[order.long()].reshape(1, -1, KV_HEADS, HEAD_DIM)[:, :length].transpose(1, 2)
        if not outs:
            exact = torch.nn.functional.scaled_dot_product_attention(q.transpose(0, 1).unsqueeze(0), rows(k), rows(v),
                                                                     enable_gqa=True)
            outs.append(exact[0, :, 0])
    error = ((steps[0]()[0] - outs[0]).float().norm() / outs[0].float().norm()).item()
    import flashinfer as package
    report.add("flashinfer, bf16 pages", steps, 2 * 2 * KV_HEADS * length * HEAD_DIM, who="flashinfer",
               version=package.__version__, difference_from_torch=error)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library")
    parser.add_argument("out")
    parser.add_argument("--length", type=int, default=131072)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--rivals", type=int, default=1)
    parser.add_argument("--flashinfer", type=int, default=0, help="1: also flashinfer-python, which must be installed")
    options = parser.parse_args()
    library = tessera_cuda_decode.Library(os.path.abspath(options.library))
    report = Report(options.repeats)
    copy_bandwidth(report)
    ours(report, library, options.length)
    if options.rivals:
        rivals(report, options.length)
    if options.flashinfer:
        flashinfer(report, options.length)
    os.makedirs(options.out, exist_ok=True)
    path = os.path.join(options.out, "decode.json")
    with open(path + ".part", "w") as file:
        json.dump({"machine": machine(), "length": options.length, "heads": HEADS, "kv_heads": KV_HEADS, "head_dim": HEAD_DIM,
                   "batch": 1, "caches_rotated": CACHES, "decode_seed": SEED, "rows": report.rows}, file, indent=1)
    os.replace(path + ".part", path)


if __name__ == "__main__":
    main()
