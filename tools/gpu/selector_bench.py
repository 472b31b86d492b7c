"""Every selector over the same kernel: quality against tiles computed and time, and the cost of choosing.

    python3 tools/gpu/selector_bench.py LIBRARY OUT_DIR [--stages quality,speed,million,heads,correction,exact,crossover] [--lengths 16384,32768,131072]
                                        [--recorded FOLDER,...] [--seconds 0.3]

quality  per selector on planted q/k/v, and on recorded ones, as written by bench_record_attention: output error against dense attention, recall of attention over query rows that no
         selector has seen, the log-sum-exp gap, tiles computed, times.
speed    per length, 32 query and 8 KV heads of 128: choosing alone (a graph replay), everything and dense attention in
         turn, and the shares.
correction  per selector the error of the output and of the log-sum-exp at equal tiles: without the pooled mean correction,
         with one and with two levels; planted, N(0, 1) and recorded inputs.
exact    choosing by recall and vertical_slash: the default probe against `exact`, per length.
crossover  key rows from which `automatic` should choose here, measured.
heads    1,048,576 rows, 32 query heads: choosing alone and its memory.
million  1,048,576 rows: choosing and everything per query head, bytes of the lists.

Writes OUT_DIR/selectors_STAGE.json with machine, driver, clocks, repeats and spread; prints tables. Seeds are fixed.
"""

import argparse
import json
import math
import os
import statistics
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "python"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tessera_cuda  # noqa: E402
from bench import machine, timed, timed_in_turn  # noqa: E402
from selection_lists import Case, Lists, scores_of, taken  # noqa: E402

# name, method, options
SELECTORS = (
    ("a_shape", "a_shape", {"sinks": 128, "window": 3968}),
    ("tri_shape", "a_shape", {"sinks": 128, "window": 3968, "dense_rows": 128}),
    ("vertical_slash(1000, 6096)", "vertical_slash", {}),
    ("vertical_slash(512, 2048)", "vertical_slash", {"vertical": 512, "slash": 2048}),
    ("vertical_slash(3500, 100)", "vertical_slash", {"vertical": 3500, "slash": 100}),
    ("recall(0.90)", "recall", {"recall": 0.90}),
    ("recall(0.95)", "recall", {"recall": 0.95}),
    ("recall(0.98)", "recall", {"recall": 0.98}),
    ("tiles(0.05)", "tiles", {"share": 0.05}),
    ("tiles(0.10)", "tiles", {"share": 0.10}),
    ("block_mean(top 25)", "block_mean", {"top_k": 25, "window": 256}),
    ("block_mean(0.05)", "block_mean", {"threshold": 0.05, "window": 256}),
    ("block_lse(0.05)", "block_lse", {"threshold": 0.05, "window": 256}),
    ("block_lse(0.01)", "block_lse", {"threshold": 0.01, "window": 256}),
    ("automatic", "automatic", {}),
)


def stream():
    return torch.cuda.current_stream().cuda_stream


class Call:
    """A selector on a case, with scratch memory of its own."""

    def __init__(self, library, case, method, fields):
        self.library, self.case = library, case
        self.options = library.options(method, **fields)
        self.list_bytes = library.selection_bytes(*case.all(), self.options, attend=False)
        self.scratch = torch.empty(library.selection_bytes(*case.all(), self.options), dtype=torch.uint8, device="cuda")

    def choose(self):
        return self.library.select(*self.case.all(), self.options, scratch=self.scratch, stream=stream())

    def attend(self):
        return self.library.attend_selected(*self.case.all(), self.options, scratch=self.scratch, stream=stream())

    def choosing(self):
        """Choosing as one graph replay: what the device needs, without the host's launches."""
        self.choose()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            if self.choose().dense:
                return lambda: None
        return graph.replay

    def lists(self):
        selected = self.choose()
        return None if selected.dense else Lists(self.case, selected, self.scratch)


def summary(times):
    return {"ms": statistics.median(times), "extremes": [min(times), max(times)], "repeats": len(times)}


def dense_tiles(case):
    first = case.key_rows - case.query_rows
    tiles = (case.query_rows + 127) // 128
    return case.heads * sum((first + min(case.query_rows, t * 128 + 128) + 127) // 128 for t in range(tiles))


def quality_rows(case, count=256):
    """Query rows spread over the prompt that no selector probes (odd offsets within their tiles), and the very last ones."""
    step = max(1, case.query_rows // count)
    rows = torch.arange(step // 2, case.query_rows, step, device="cuda")
    return rows[rows % 32 != 16]


def measure_quality(library, case, seconds, say):
    dense = Call(library, case, "dense", {})
    dense.attend()
    exact, exact_lse = case.out.clone(), case.lse.clone()
    dense_ms = summary(timed(dense.attend, seconds))
    rows = quality_rows(case)
    found = []
    for name, method, fields in SELECTORS:
        call = Call(library, case, method, fields)
        lists = call.lists()
        attend_ms = summary(timed(call.attend, seconds))
        choose_ms = summary(timed(call.choosing(), seconds))
        difference = (case.out.float() - exact.float())[rows].norm(dim=-1) / exact.float()[rows].norm(dim=-1)
        gap = (exact_lse - case.lse)[rows]
        # exp(LSE of what was computed - LSE of everything) is the recall of a row, exactly.
        recall = torch.exp(-gap.double()).clamp(max=1.0)
        tiles = lists.computed_tiles() / dense_tiles(case) if lists else 1.0
        n = recall.numel()
        result = {"selector": name, "tiles": tiles, "output_error": difference.mean().item(),
                  "output_error_95": difference.flatten().quantile(0.95).item() if n < 10**7 else None,
                  "recall": recall.mean().item(), "recall_standard_error": (recall.std() / math.sqrt(n)).item(),
                  "recall_worst_head": recall.mean(0).min().item(), "lse_gap": gap.mean().item(), "attend": attend_ms,
                  "choose": choose_ms, "dense": dense_ms, "overflow": lists.overflow if lists else 0,
                  "list_bytes": call.list_bytes}
        found.append(result)
        say(f"{name:28s} tiles {tiles:6.3f}  recall {result['recall']:.4f}  worst head {result['recall_worst_head']:.3f}  "
            f"output error {result['output_error']:.4f}  LSE gap {result['lse_gap']:.4f}  {attend_ms['ms']:8.3f} ms "
            f"(choosing {choose_ms['ms']:.3f}, dense {dense_ms['ms']:.3f})")
    return found


def load_recorded(folder):
    import numpy
    with open(os.path.join(folder, "shape.json")) as file:
        shape = json.load(file)
    array = lambda name, heads: torch.from_numpy(numpy.load(os.path.join(folder, f"{name}.npy")).astype("float32")).view(
        -1, heads, shape["head_dim"])
    return array("q", shape["heads"]), array("k", shape["kv_heads"]), array("v", shape["kv_heads"])


def stage_quality(library, options):
    rows = []
    for length in options.lengths:
        case = Case(length, length, 8, 2, sharp=10.0)
        print(f"# planted, {length} rows, 8 query and 2 KV heads", flush=True)
        rows.append({"input": "planted", "rows": length, "seed": 1,
                     "selectors": measure_quality(library, case, options.seconds, lambda s: print(s, flush=True))})
    for path in options.recorded.split(",") if options.recorded else ():
        q, k, v = load_recorded(path)
        case = Case(q.shape[0], k.shape[0], q.shape[1], k.shape[1], head_dim=q.shape[2])
        case.q, case.k, case.v = (t.cuda().to(torch.bfloat16).contiguous() for t in (q, k, v))
        print(f"# recorded {os.path.basename(path)}, {list(q.shape)} and {list(k.shape)}", flush=True)
        rows.append({"input": os.path.basename(path), "rows": q.shape[0],
                     "selectors": measure_quality(library, case, options.seconds, lambda s: print(s, flush=True))})
    return rows


def inputs_of(library, options):
    for length in options.lengths:
        yield f"planted {length}", Case(length, length, 8, 2, sharp=10.0)
        yield f"N(0, 1) {length}", Case(length, length, 8, 2)
    for path in options.recorded.split(",") if options.recorded else ():
        q, k, v = load_recorded(path)
        case = Case(q.shape[0], k.shape[0], q.shape[1], k.shape[1], head_dim=q.shape[2])
        case.q, case.k, case.v = (t.cuda().to(torch.bfloat16).contiguous() for t in (q, k, v))
        yield f"recorded {os.path.basename(path)}", case


CORRECTED = (("a_shape", "a_shape", {"sinks": 128, "window": 1024}),
             ("vertical_slash(1000, 100)", "vertical_slash", {"vertical": 1000, "slash": 100}),
             ("recall(0.90)", "recall", {"recall": 0.90}),
             ("tiles(0.05)", "tiles", {"share": 0.05}),
             ("block_lse(0.05)", "block_lse", {"threshold": 0.05, "window": 256}))


def stage_correction(library, options):
    found = []
    for name, case in inputs_of(library, options):
        dense = Call(library, case, "dense", {})
        dense.attend()
        exact, exact_lse = case.out.float(), case.lse.clone()
        rows = quality_rows(case)
        for selector, method, fields in CORRECTED:
            for levels in (0, 1, 2):
                call = Call(library, case, method, {**fields, "correction_levels": levels})
                lists = call.lists()
                time = summary(timed(call.attend, options.seconds / 3))
                error = (case.out.float() - exact)[rows].norm(dim=-1) / exact[rows].norm(dim=-1)
                gap = (exact_lse - case.lse)[rows]
                result = {"input": name, "selector": selector, "levels": levels,
                          "tiles": lists.computed_tiles() / dense_tiles(case) if lists else 1.0,
                          "output_error": error.mean().item(),
                          "output_error_standard_error": (error.std() / math.sqrt(error.numel())).item(),
                          "lse_gap": gap.mean().item(), "attend": time}
                found.append(result)
                print(f"{name:22s} {selector:26s} levels {levels}  tiles {result['tiles']:.3f}  output error "
                      f"{result['output_error']:.4f}  LSE gap {result['lse_gap']:.4f}  {time['ms']:.3f} ms", flush=True)
    return found


def stage_exact(library, options):
    found = []
    for length in options.lengths:
        case = Case(length, length, 32, 8, sharp=10.0)
        for method in ("recall", "vertical_slash"):
            times = [summary(timed(Call(library, case, method, {"exact": exact}).choosing(), options.seconds))
                     for exact in (0, 1)]
            found.append({"rows": length, "method": method, "choose": times[0], "choose_exact": times[1]})
            print(f"{length:7d} {method:16s} choosing {times[0]['ms']:.3f} ms, exact {times[1]['ms']:.3f} ms", flush=True)
        del case
        torch.cuda.empty_cache()
    return found


def stage_crossover(library, options):
    found = []
    for heads, kv_heads, head_dim in ((32, 8, 128), (8, 8, 128), (32, 8, 64), (1, 1, 128)):
        times = [library.measure_crossover(heads, kv_heads, head_dim) for _ in range(3)]
        found.append({"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "rows": times})
        print(f"{heads:3d} {kv_heads:3d} heads of {head_dim}: {times}", flush=True)
    return found


def stage_speed(library, options):
    rows = []
    for length in options.lengths:
        case = Case(length, length, 32, 8, sharp=10.0)
        plain = Call(library, case, "dense", {})
        for name, method, fields in SELECTORS:
            call = Call(library, case, method, fields)
            lists = call.lists()
            choose = summary(timed(call.choosing(), options.seconds))
            dense, attend = map(summary, timed_in_turn([plain.attend, call.attend], options.seconds))
            tiles = lists.computed_tiles() / dense_tiles(case) if lists else 1.0
            rows.append({"rows": length, "selector": name, "tiles": tiles, "dense": dense, "choose": choose, "attend": attend,
                         "list_bytes": call.list_bytes})
            print(f"{length:7d} {name:28s} tiles {tiles:6.3f}  dense {dense['ms']:9.3f}  choose {choose['ms']:8.4f} ms = "
                  f"{100 * choose['ms'] / dense['ms']:6.3f} %  all {attend['ms']:9.3f} ms = {dense['ms'] / attend['ms']:6.2f}x",
                  flush=True)
            del call, lists
        del case
        torch.cuda.empty_cache()
    return rows


def stage_million(library, options):
    rows = []
    length = 1 << 20
    case = Case(length, length, 4, 1, sharp=10.0)
    dense = summary(timed(Call(library, case, "dense", {}).attend, 0.01))
    for name, method, fields in SELECTORS:
        if method == "block_mean":
            continue
        call = Call(library, case, method, {**fields, "most_entries": 60000000 // 8})  # of 32 heads
        lists = call.lists()
        choose, attend = summary(timed(call.choosing(), 0.1)), summary(timed(call.attend, 0.1))
        tiles = lists.computed_tiles() / dense_tiles(case) if lists else 1.0
        rows.append({"rows": length, "selector": name, "heads": 4, "tiles": tiles, "dense": dense, "choose": choose,
                     "attend": attend, "list_bytes_per_head": call.list_bytes / 4, "overflow": lists.overflow if lists else 0})
        print(f"{length:7d} {name:28s} tiles {tiles:6.4f}  dense {dense['ms'] / 4:9.2f}  choose {choose['ms'] / 4:8.3f} ms/head "
              f"= {100 * choose['ms'] / dense['ms']:6.3f} %  all {attend['ms'] / 4:9.3f} ms/head  lists "
              f"{call.list_bytes / 4 / 1e6:.1f} MB/head overflow {rows[-1]['overflow']}", flush=True)
        del call, lists
    return rows


def stage_heads(library, options):
    """1,048,576 rows with all 32 query and 8 KV heads, N(0, 1): choosing alone, and bytes. Lists cut where they do not fit."""
    rows = []
    length = 1 << 20
    case = Case(length, length, 32, 8)
    for name, method, fields in SELECTORS:
        if method not in ("a_shape", "vertical_slash", "recall", "tiles"):
            continue
        call = Call(library, case, method, fields)
        choose = summary(timed(call.choosing(), 0.1))
        lists = call.list_bytes
        masses = 0 if method == "a_shape" else 8 * length * case.heads
        rows.append({"rows": length, "selector": name, "heads": 32, "choose": choose, "bytes": lists,
                     "bytes_without_masses": lists - masses})
        print(f"{length:7d} {name:28s} 32 heads  choose {choose['ms']:8.3f} ms  {lists / 1e6:.0f} MB, without the masses "
              f"{(lists - masses) / 1e6:.0f} MB", flush=True)
        del call
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library")
    parser.add_argument("out")
    parser.add_argument("--stages", default="quality,speed")
    parser.add_argument("--lengths", default="16384,32768,131072")
    parser.add_argument("--recorded", default="")
    parser.add_argument("--seconds", type=float, default=0.3)
    options = parser.parse_args()
    options.lengths = [int(x) for x in options.lengths.split(",")]
    library = tessera_cuda.Library(os.path.abspath(options.library))
    os.makedirs(options.out, exist_ok=True)
    for stage in options.stages.split(","):
        rows = globals()[f"stage_{stage}"](library, options)
        path = os.path.join(options.out, f"selectors_{stage}.json")
        with open(path + ".part", "w") as file:
            json.dump({"machine": machine(), "rows": rows}, file, indent=1)
        os.replace(path + ".part", path)


if __name__ == "__main__":
    main()
