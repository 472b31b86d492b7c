"""The selectors on the GPU against definitions in fp64: masses, lines, lists, attention over the lists, recall, repeats, errors.

    python3 tools/gpu/selection_check.py LIBRARY [quick]

Prints one line per check; exit status 1 when one fails. Seeds are fixed. `quick`: a few small cases,
for compute-sanitizer.
"""

import math
import os
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "python"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tessera_cuda  # noqa: E402
from selection_lists import Case, Lists, scores_of, taken  # noqa: E402

failures = 0


def expect(good, what):
    global failures
    failures += not good
    print(("ok   " if good else "FAIL ") + what, flush=True)


def stream():
    return torch.cuda.current_stream().cuda_stream


def run(library, case, method, **fields):
    options = library.options(method, **fields)
    scratch = torch.full((library.selection_bytes(*case.all(), options),), 255, dtype=torch.uint8, device="cuda")
    selected = library.attend_selected(*case.all(), options, scratch=scratch, stream=stream())
    torch.cuda.synchronize()
    return selected, scratch


def check_attention(case, lists, name):
    """Output and LSE against the masked definition in fp64."""
    worst, lse_worst = 0.0, 0.0
    for head in range(case.heads):
        rows = torch.arange(case.query_rows, device="cuda")
        scores = scores_of(case, head, rows).masked_fill_(~lists.kept(case, head), -math.inf)
        lse = scores.logsumexp(-1)
        weights = torch.where(torch.isfinite(lse)[:, None], (scores - lse[:, None]).exp(), 0.0)
        exact = weights @ case.v[:, head // case.group].double()
        worst = max(worst, ((case.out[:, head].double() - exact).norm() / exact.norm()).item())
        seen = torch.isfinite(lse)
        lse_worst = max(lse_worst, (case.lse[:, head].double() - lse)[seen].abs().max().item())
    expect(worst < 6e-3 and lse_worst < 2e-3, f"{name}: attention over the lists, error {worst:.1e}, LSE {lse_worst:.1e}")


def check_lines(library, case, name, vertical, slash, **fields):
    selected, scratch = run(library, case, "vertical_slash", vertical=vertical, slash=slash, sinks=10, local=20, **fields)
    n = case.heads * case.key_rows
    columns = taken(scratch, selected, "column_mass", n, torch.float32).view(case.heads, -1)
    diagonals = taken(scratch, selected, "diagonal_mass", n, torch.float32).view(case.heads, -1)
    lists = Lists(case, selected, scratch)
    count = min(64, case.query_rows)
    rows = torch.arange(case.query_rows - count, case.query_rows, device="cuda")
    own = rows + case.key_rows - case.query_rows
    mass_error, good_columns, good_tiles = 0.0, True, True
    for head in range(case.heads):
        weights = scores_of(case, head, rows).softmax(-1)
        distance = own[:, None] - torch.arange(case.key_rows, device="cuda")[None]
        by_distance = torch.zeros(case.key_rows, dtype=torch.float64, device="cuda")
        by_distance.scatter_add_(0, distance.clamp(min=0).flatten(), torch.where(distance >= 0, weights, 0.0).flatten())
        mass_error = max(mass_error, (columns[head] - weights.sum(0)).abs().max().item(),
                         (diagonals[head] - by_distance).abs().max().item())
        best = lambda values, forced, keep: torch.sort(torch.sort(
            torch.cat([torch.full((min(forced, case.key_rows),), math.inf, device="cuda"), values[forced:]]), descending=True,
            stable=True).indices[:keep]).values
        wanted = best(columns[head], 10, min(max(vertical, 10), case.key_rows))
        good_columns &= torch.equal(lists.columns[head, :int(lists.count[head])].long(), wanted)
        lines = best(diagonals[head], 20, min(max(slash, 20), case.key_rows))
        flags = torch.zeros(case.key_rows + 1, device="cuda", dtype=torch.long)
        flags[lines + 1] = 1
        before = flags.cumsum(0)
        tile = lists.key_tile
        for t in range(lists.tiles_per_head):
            low = case.key_rows - case.query_rows + t * 128
            high = case.key_rows - case.query_rows + min(case.query_rows, t * 128 + 128) - 1
            key = torch.arange((high + tile) // tile, device="cuda") * tile
            first = (low - (key + tile - 1)).clamp(0, case.key_rows)
            last = (high - key + 1).clamp(0, case.key_rows)
            good_tiles &= torch.equal(lists.key_tiles(head, t).long(), ((before[last] - before[first]) > 0).nonzero().flatten())
    # Codes of 8 bits move the heaviest masses, of 64, by some hundredths.
    expect(mass_error < (0.6 if fields.get("exact") else 2e-3), f"{name}: masses within {mass_error:.1e} of fp64")
    expect(good_columns, f"{name}: columns are the largest, ties by lower index")
    expect(good_tiles and lists.overflow == 0, f"{name}: tiles are those that the diagonals touch")
    check_attention(case, lists, name)


def check_recall(library, case, name, **fields):
    selected, scratch = run(library, case, "recall", **fields)
    target = fields.get("recall", 0.95)
    first_run = (case.out.clone(), case.lse.clone())
    lists = Lists(case, selected, scratch)
    report = taken(scratch, selected, "report", 2 * case.heads, torch.float32).view(-1, 2)
    reached, mean = 1.0, 0.0
    tiles = (case.query_rows + 127) // 128
    groups = min(tiles, 16)
    rows = []
    for g in range(1, groups, 2):  # those that judge
        tile = (g + 1) * tiles // groups - 1
        size = min(128, case.query_rows - tile * 128)
        rows += [tile * 128 + (2 * i + 1) * size // 8 for i in range(4)]
    rows = torch.tensor(rows, device="cuda")
    everywhere = torch.arange(5, case.query_rows, 7, device="cuda")
    for head in range(case.heads):
        covered = lambda r: (scores_of(case, head, r).softmax(-1) * lists.kept(case, head, r)).sum(1).mean().item()
        reached = min(reached, covered(rows))
        mean += covered(everywhere) / case.heads
    dense = sum((case.key_rows - case.query_rows + min(case.query_rows, t * 128 + 128) + 127) // 128 for t in range(tiles))
    slack = 2e-2 if fields.get("exact") else 2e-3  # exact masses are those of rounded rows
    expect(reached >= target - slack, f"{name}: recall of the judging rows {reached:.4f} >= {target}, of all rows {mean:.4f}, "
           f"computed {lists.computed_tiles() / dense / case.heads:.3f} of dense, "
           f"reported {report[:, 0].mean().item():.3f} and {report[:, 1].mean().item():.3f}")
    check_attention(case, lists, name)
    run(library, case, "recall", **fields)
    expect(torch.equal(first_run[0], case.out) and torch.equal(first_run[1], case.lse), f"{name}: repeat is bit-identical")


def check_blocks(library, case, name, method, **fields):
    """Lists against scores in fp64: everything clearly above the limit is listed, nothing clearly below it."""
    selected, scratch = run(library, case, method, **fields)
    lists = Lists(case, selected, scratch)
    size = 32 if method == "block_lse" else 128
    first = case.key_rows - case.query_rows
    window, sinks, dense = fields.get("window", 3968), fields.get("sinks", 30), fields.get("dense_rows", 0)

    def means(x):
        padded = torch.nn.functional.pad(x.double(), (0, 0, 0, -len(x) % size)).view(-1, size, x.shape[1]).sum(1)
        rows = torch.full((len(padded),), float(size), device="cuda", dtype=torch.float64)
        rows[-1] -= -len(x) % size
        mean = padded / rows[:, None]
        step = (mean.abs().amax(1, keepdim=True) / 255).clamp(min=1e-30)  # codes as in block_score.h
        return (mean / step).round() * step

    wrong = missing = 0
    for head in range(case.heads):
        q, k = means(case.q[:, head]), means(case.k[:, head // case.group])
        scores = q @ k.T / math.sqrt(case.q.shape[2])
        last_own = first + torch.clamp((torch.arange(len(q), device="cuda") + 1) * size, max=case.query_rows) - 1
        scores.masked_fill_(torch.arange(len(k), device="cuda")[None] * size > last_own[:, None], -math.inf)
        for t in range(lists.tiles_per_head):
            own = first + t * 128
            end = first + min(case.query_rows, t * 128 + 128)
            visible = (end + 127) // 128
            parts = 128 // size
            part = torch.nn.functional.pad(scores[t * parts:(t + 1) * parts], (0, parts), value=-math.inf)
            tile = torch.stack([part[:, j * parts:(j + 1) * parts].flatten().logsumexp(0) for j in range(visible)])
            key = torch.arange(visible, device="cuda")
            forced = (key < (sinks + 127) // 128) | (key * 128 + 128 > own - window + 1)
            if min(case.query_rows, t * 128 + 128) > case.query_rows - dense > 0 and dense > 0:
                forced[:] = True
            if fields.get("top_k", 0):
                limit = torch.sort(tile, descending=True).values[min(fields["top_k"], visible) - 1]
            else:
                limit = tile.max() + math.log(fields.get("threshold", 0.01))
            listed = torch.zeros(visible, dtype=torch.bool, device="cuda")
            found = lists.key_tiles(head, t).long()
            listed[found * lists.key_tile // 128] = True
            # Both halves of a tile of 128, as far as they are visible.
            halves = torch.arange((end + lists.key_tile - 1) // lists.key_tile, device="cuda")
            wrong += not torch.equal(found, halves[listed[halves * lists.key_tile // 128]])
            missing += ((tile > limit + 1e-2) | forced).logical_and(~listed).sum().item()
            wrong += ((tile < limit - 1e-2) & ~forced).logical_and(listed).sum().item()
    expect(missing == 0 and wrong == 0 and lists.overflow == 0, f"{name}: {missing} tiles missing, {wrong} wrong, "
           f"{lists.entries.numel()} listed")
    check_attention(case, lists, name)


def check_sequences(library, name, method, **fields):
    """Several sequences in one call: the lists and the outputs of each are those of a call of its own, bit by bit."""
    case = Case(2805, 3279, 4, 2, sharp=10.0, seed=5)
    sequences = [(0, 300, 0, 700, 400), (300, 0, 700, 9, 0), (300, 2500, 709, 2500, 0), (2800, 5, 3209, 70, 65)]
    options = library.options(method, sinks=4, window=200, **fields)

    def call(of):
        size = library.selection_bytes(*case.all(), options, sequences=of)
        scratch = torch.full((size,), 255, dtype=torch.uint8, device="cuda")
        case.out.fill_(float("nan"))
        selected = library.attend_selected(*case.all(), options, scratch=scratch, stream=stream(), sequences=of)
        torch.cuda.synchronize()
        return selected, scratch

    selected, scratch = call(sequences)
    out, lse = case.out.clone(), case.lse.clone()
    work = selected.c.work
    begin = taken(scratch, selected, "tile_begin", case.heads * work.query_tiles + 1, torch.int32).tolist()
    tiles = taken(scratch, selected, "tiles", begin[-1], torch.int32)
    same_lists = same_rows = True
    first = 0
    for one in (s for s in sequences if s[1]):
        count = (one[1] + 127) // 128
        alone, own = call([one])
        rows = slice(one[0], one[0] + one[1])
        close = torch.allclose(out[rows].float(), case.out[rows].float(), rtol=0, atol=0.03) and torch.allclose(
            lse[rows], case.lse[rows], rtol=0, atol=2e-3)
        same_rows &= close
        for head in range(case.heads if not alone.dense else 0):
            at = head * work.query_tiles + first
            own_begin = taken(own, alone, "tile_begin", case.heads * count + 1, torch.int32).tolist()
            own_tiles = taken(own, alone, "tiles", own_begin[-1], torch.int32)
            same_lists &= torch.equal(tiles[begin[at]:begin[at + count]],
                                      own_tiles[own_begin[head * count]:own_begin[(head + 1) * count]])
        first += count
    expect(same_lists and same_rows and not torch.isnan(out[:300]).any() and not torch.isnan(out[300:]).any(),
           f"{name}: four sequences, lists of each as alone {same_lists}, rows as alone {same_rows}, {begin[-1]} entries")


def check_correction(library, case, name, levels, method, kernel="automatic", **fields):
    """Listed pairs exactly, tiles that all rows see and the list leaves out by their mean, in fp64."""
    options = library.options(method, correction_levels=levels, **fields)
    scratch = torch.full((library.selection_bytes(*case.all(), options),), 255, dtype=torch.uint8, device="cuda")
    selected = library.attend_selected(*case.all(), options, scratch=scratch, stream=stream(), kernel=kernel)
    torch.cuda.synchronize()
    lists = Lists(case, selected, scratch)
    tile = lists.key_tile
    first = case.key_rows - case.query_rows
    worst = lse_worst = 0.0
    means = 0
    for head in range(case.heads):
        k, v = case.k[:, head // case.group].double(), case.v[:, head // case.group].double()
        free = torch.ones(case.key_rows, dtype=torch.bool, device="cuda")
        if lists.columns is not None:
            free[lists.columns[head, :int(lists.count[head])].long()] = False
        for t in range(lists.tiles_per_head):
            rows = torch.arange(t * 128, min(case.query_rows, t * 128 + 128), device="cuda")
            scores = scores_of(case, head, rows).masked_fill_(~lists.kept(case, head, rows), -math.inf)
            listed = set(lists.key_tiles(head, t).tolist())
            full = (first + t * 128 + 1) // tile
            groups, key = [], 0
            while key < full:
                whole = levels == 2 and key % 8 == 0 and key + 16 <= full and not listed & set(range(key, key + 8))
                if whole or key not in listed:
                    groups.append(torch.arange(key * tile, (key + (8 if whole else 1)) * tile, device="cuda"))
                key += 8 if whole else 1
            groups = [g[free[g]] for g in groups]
            groups = [g for g in groups if len(g)]
            values = v
            if groups:
                means += len(groups)
                mean_k = torch.stack([k[g].mean(0) for g in groups])
                bias = torch.tensor([math.log(len(g)) for g in groups], device="cuda", dtype=torch.float64)
                q = case.q[rows, head].double()
                scores = torch.cat([scores, q @ mean_k.T / math.sqrt(q.shape[1]) + bias], 1)
                values = torch.cat([v, torch.stack([v[g].mean(0) for g in groups])])
            lse = scores.logsumexp(-1)
            exact = (scores - lse[:, None]).exp() @ values
            out = case.out[rows, head].double()
            worst = max(worst, ((out - exact).norm() / exact.norm()).item())
            lse_worst = max(lse_worst, (case.lse[rows, head].double() - lse).abs().max().item())
    expect(worst < 8e-3 and lse_worst < 5e-3 and means > 0,
           f"{name}: {means} means, error {worst:.1e}, LSE {lse_worst:.1e}")


def check_crossover(library):
    rows = library.measure_crossover(32, 8, 128)
    expect(2048 <= rows <= 65536 and rows % 128 == 0, f"crossover of this GPU, 32 and 8 heads of 128: {rows} rows")


def check_errors(library):
    case = Case(256, 256, 2, 1)
    for name, call in (
            ("recall 0", lambda: run(library, case, "recall", recall=0.0)),
            ("columns 100", lambda: run(library, case, "recall", most_columns=100)),
            ("small scratch", lambda: library.attend_selected(
                *case.all(), library.options("recall"), scratch=torch.empty(256, dtype=torch.uint8, device="cuda"),
                stream=stream()))):
        try:
            call()
            expect(False, f"errors: {name} is refused")
        except tessera_cuda.TesseraError as error:
            expect(True, f"errors: {error}")


def main():
    library = tessera_cuda.Library(os.path.abspath(sys.argv[1]))
    if sys.argv[2:] == ["quick"]:
        check_lines(library, Case(200, 500, 4, 2, sharp=8.0, seed=2), "lines 200 of 500", 20, 40)
        check_recall(library, Case(600, 700, 2, 1, sharp=10.0), "recall 600 of 700", recall=0.7)
        check_blocks(library, Case(600, 600, 2, 2), "block_lse 600", "block_lse", threshold=0.5, sinks=4, window=128)
        check_blocks(library, Case(600, 600, 2, 2), "block_mean 600", "block_mean", top_k=2, sinks=4, window=128)
        check_correction(library, Case(300, 900, 2, 1), "correction 300 of 900", 1, "a_shape", sinks=20, window=150)
        check_correction(library, Case(200, 3000, 2, 1), "correction 200 of 3000, 2 levels", 2, "a_shape", sinks=20, window=150)
        check_recall(library, Case(600, 700, 2, 1, sharp=10.0), "exact recall 600 of 700", recall=0.7, exact=1)
        check_lines(library, Case(200, 500, 4, 2, sharp=8.0, seed=2), "exact lines 200 of 500", 20, 40, exact=1)
        print(f"failures: {failures}")
        sys.exit(failures > 0)
    check_lines(library, Case(2048, 2048, 8, 2, sharp=8.0), "lines 2048 8/2", 60, 90)
    check_lines(library, Case(1000, 1000, 4, 4), "lines 1000 4/4", 60, 60)
    check_lines(library, Case(333, 1501, 8, 1, sharp=8.0, seed=2), "lines 333 of 1501 8/1", 33, 70)
    check_lines(library, Case(40, 40, 2, 1), "lines 40 2/1", 12, 22)
    check_lines(library, Case(700, 700, 6, 2, head_dim=64, dtype=torch.float16), "lines 700 6/2 d64 f16", 60, 60)
    check_lines(library, Case(700, 900, 2, 2, head_dim=256, sharp=8.0), "lines 700 of 900 d256", 60, 60)
    check_recall(library, Case(4096, 4096, 8, 2, sharp=10.0), "recall 4096 8/2", sinks=4)
    check_recall(library, Case(3001, 3001, 4, 4, sharp=10.0, seed=3), "recall 3001 4/4", recall=0.8, sinks=4)
    check_recall(library, Case(1500, 3777, 4, 1, sharp=10.0, seed=4), "recall 1500 of 3777 4/1", recall=0.9)
    check_recall(library, Case(2048, 2048, 2, 1, head_dim=256, sharp=10.0), "recall 2048 d256", recall=0.9)
    check_recall(library, Case(2048, 2048, 4, 2), "recall 2048 of noise")
    for dense_rows in (0, 200):
        case = Case(1500, 2000, 4, 2)
        selected, scratch = run(library, case, "a_shape", sinks=150, window=300, dense_rows=dense_rows)
        check_attention(case, Lists(case, selected, scratch), f"a_shape 150 300 {dense_rows}")
    small = {"sinks": 4, "window": 128}
    check_blocks(library, Case(4000, 4000, 4, 2, sharp=10.0), "block_lse 4000", "block_lse", **small)
    check_blocks(library, Case(700, 1900, 4, 4), "block_lse 700 of 1900", "block_lse", threshold=0.5, dense_rows=130, **small)
    check_blocks(library, Case(4000, 4000, 4, 2, sharp=10.0), "block_mean 4000", "block_mean", **small)
    check_blocks(library, Case(3000, 3000, 4, 1, head_dim=64, dtype=torch.float16), "block_mean top 5", "block_mean", top_k=5,
                 **small)
    check_blocks(library, Case(3000, 3000, 2, 1, head_dim=96, sharp=10.0), "block_lse d96", "block_lse", **small)
    check_blocks(library, Case(2000, 2500, 2, 1, head_dim=256, sharp=10.0), "block_lse d256", "block_lse", **small)
    check_blocks(library, Case(2000, 2000, 2, 1, head_dim=256), "block_mean d256 top 5", "block_mean", top_k=5, **small)
    check_lines(library, Case(2048, 2048, 4, 2, sharp=8.0), "exact lines 2048", 60, 90, exact=1)
    check_recall(library, Case(4096, 4096, 8, 2, sharp=10.0), "exact recall 4096 8/2", sinks=4, exact=1)
    for method, fields in (("a_shape", {}), ("vertical_slash", {"vertical": 60, "slash": 90}), ("recall", {"recall": 0.8}),
                           ("block_lse", {}), ("block_mean", {"top_k": 4}), ("automatic", {"crossover": 2000})):
        check_sequences(library, method, method, **fields)
    for levels in (1, 2):
        check_correction(library, Case(1500, 4000, 4, 2), f"correction a_shape {levels}", levels, "a_shape", sinks=150, window=300)
        check_correction(library, Case(1500, 4000, 4, 2, sharp=8.0), f"correction lines {levels}", levels, "vertical_slash",
                         vertical=300, slash=100, sinks=10, local=20)
    check_correction(library, Case(700, 1500, 2, 2, head_dim=256), "correction d256", 1, "a_shape", sinks=100, window=200)
    check_correction(library, Case(900, 900, 2, 1, head_dim=96, dtype=torch.float16), "correction d96 f16", 2, "a_shape",
                     sinks=4, window=130)
    check_correction(library, Case(900, 2900, 2, 1, head_dim=64), "correction d64 mma.sync", 2, "a_shape", "mma_sync", sinks=4,
                     window=130)
    check_crossover(library)
    check_errors(library)
    print(f"failures: {failures}")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
