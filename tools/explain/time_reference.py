#!/usr/bin/env python3
"""Times a copy of the published Python reference beside `tessera explain --compat`: same data, queries and settings.

    python3 -m venv V && V/bin/pip install numpy pandas scipy statsmodels scikit-learn matplotlib
    V/bin/python tools/explain/time_reference.py --reference PATH/bootstrap.py [--json FILE]

The reference is the module `bootstrap.py` of the repository surinahn/xai-uncertainty-quantification; it is not part of this
project and is not downloaded. Where it (or one of its packages) is not installed the script says so and times ours
alone. The data are those of the simulation protocol (docs/explain.md, "Measured"). Point estimates are compared too
(they must agree to 1e-5); interval widths differ by the bootstrap's own noise. Times are CPU seconds of one thread;
ours excludes reading the table (a run with more queries minus a run with one).
"""
import argparse
import importlib.util
import json
import math
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MASK = (1 << 64) - 1
SETTINGS = {  # name: neighbours, degree, ratio, weighted
    "A": (66, 4, 0.894, True),
    "B": (64, 2, 0.75, False),
    "D": (150, 2, 0.667, True),
}


class SplitMix64:
    def __init__(self, seed):
        self.state = seed

    def uniform(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return ((z ^ (z >> 31)) >> 11) * 2.0**-53


def simulate(seed, rows):
    """Rows u, v, a, b with their outputs, then one query."""
    draw = SplitMix64(seed)

    def point():
        u, v = -5 + 10 * draw.uniform(), -5 + 10 * draw.uniform()
        return [u, v, 1 + math.floor(3 * draw.uniform()), 1 + math.floor(3 * draw.uniform())]

    table = [point() for _ in range(rows)]
    outputs = [math.sin(a * u) * math.cos(b * v) * math.tan(1 / (1 + (u - v) ** 2)) for u, v, a, b in table]
    return table, outputs, point()


def load_reference(path):
    """The class, or None with the reason printed."""
    if not path:
        print("no --reference given: only tessera is timed")
        return None
    if not pathlib.Path(path).is_file():
        sys.exit(f"{path}: no such file; expected the reference's bootstrap.py")
    spec = importlib.util.spec_from_file_location("reference_bootstrap", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as missing:
        print(f"the reference cannot be loaded ({missing}): only tessera is timed")
        return None
    return module.BootstrapTabularExplainer


def time_reference(explainer_class, table, outputs, query, setting, replicates):
    import numpy

    neighbours, degree, ratio, weighted = setting
    explainer = explainer_class(numpy.array(table, dtype=float), numpy.array(outputs), mode="regression",
                                explanation_type="gradient", weighted=weighted, categorical_features=[2, 3],
                                categorical_baselines={2: 1, 3: 1})
    start = time.process_time()
    answer = explainer.explain_instance(numpy.array(query, dtype=float), m=neighbours, k=degree, with_confidence=True,
                                        boot_ratio=ratio, num_bootstrap=replicates)
    seconds = time.process_time() - start
    return seconds, [[float(f[key]) for key in ("importance", "lower_confidence", "upper_confidence")] for f in answer]


def run_tessera(program, folder, setting, replicates, queries):
    """CPU seconds of one process, and its rows."""
    neighbours, degree, ratio, weighted = setting
    (folder / "queries.csv").write_text("u,v,a,b\n" + "".join(",".join(map(repr, q)) + "\n" for q in queries))
    command = [program, "--threads", "1", "explain", folder / "table.csv", "--output", "f", "--compat", "--categorical",
               "a,b", "--baselines", "a=1,b=1", "--query", folder / "queries.csv", "--neighbours", str(neighbours),
               "--degree", str(degree), "--ratio", str(ratio), "--weights", "linear" if weighted else "none",
               "--replicates", str(replicates), "--json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(done.stderr)
    rows = [[[f["importance"], f["lower"], f["upper"]] for f in row["features"]] for row in json.loads(done.stdout)["rows"]]
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", default=os.environ.get("TESSERA_EXPLAIN_REFERENCE", ""))
    parser.add_argument("--tessera", default=str(ROOT / "build/release/bin/tessera"))
    parser.add_argument("--settings", default="A,B,D")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=3, help="per setting; the reference takes about 20 s each")
    parser.add_argument("--json", help="file to write")
    arguments = parser.parse_args()
    explainer_class = load_reference(arguments.reference)
    results = []
    for name in arguments.settings.split(","):
        setting = SETTINGS[name]
        ours, theirs, difference, widths = [], [], 0.0, []
        for trial in range(arguments.queries):
            table, outputs, query = simulate(1000 + trial, arguments.rows)
            with tempfile.TemporaryDirectory() as where:
                folder = pathlib.Path(where)
                (folder / "table.csv").write_text(
                    "u,v,a,b,f\n" + "".join(",".join(map(repr, row + [f])) + "\n" for row, f in zip(table, outputs)))
                one, rows = run_tessera(arguments.tessera, folder, setting, arguments.replicates, [query])
                many, _ = run_tessera(arguments.tessera, folder, setting, arguments.replicates, [query] * 101)
            ours.append((many - one) / 100)
            if explainer_class is None:
                continue
            seconds, answer = time_reference(explainer_class, table, outputs, query, setting, arguments.replicates)
            theirs.append(seconds)
            for mine, reference in zip(rows[0], answer):
                difference = max(difference, abs(mine[0] - reference[0]))
                if reference[2] > reference[1]:
                    widths.append((mine[2] - mine[1]) / (reference[2] - reference[1]))
        entry = {"setting": name, "queries": arguments.queries, "tessera_ms": 1000 * statistics.median(ours)}
        line = f"{name}: tessera {entry['tessera_ms']:.2f} ms"
        if theirs:
            entry |= {"reference_s": statistics.median(theirs), "largest_difference_of_estimates": difference,
                      "median_width_ratio": statistics.median(widths)}
            line += (f", reference {entry['reference_s']:.2f} s: {1000 * entry['reference_s'] / entry['tessera_ms']:.0f} times; "
                     f"estimates differ by at most {difference:.1e}, widths by a factor of {entry['median_width_ratio']:.2f}")
        print(line, flush=True)
        results.append(entry)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
