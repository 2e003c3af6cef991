"""Linear support vector machines on MNIST, 5 against 8: scripts/linear_svm.py against plain scikit-learn.

    DATA_DIR=... python benchmarks/linear_svm.py

In each round the plain script (tests/reference/linear_svm.py) and ours, with one process and with two, run once, in
turn, each as a process of its own. The table has ratios to the plain script: of the fits' seconds, of the whole
process's with its imports (and with our tables and figure, which the plain script does not make), and of the processor
time of all processes, which other programs on the machine disturb least.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

sys.path[0] = str(Path(__file__).parent.parent)  # in place of this folder, with files of the packages' names

from benchmarks._record import write_record

ROOT = Path(__file__).parent.parent
OURS, PLAIN = "scripts/linear_svm.py", "tests/reference/linear_svm.py"


class Run(NamedTuple):
    """What a script found, and what it took."""

    results: dict[str, Any]
    whole: float
    processor: float


def clock() -> tuple[float, float]:
    """Seconds now, and processor seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), used.ru_utime + used.ru_stime


def measure(jobs: int) -> Run:
    """Run our script with some processes, or with 0 the plain one."""
    began = clock()
    if jobs:
        with tempfile.TemporaryDirectory() as folder:
            words = [str(ROOT / OURS), "--data", "mnist", "--output", folder, "--jobs", str(jobs)]
            subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
            results = json.loads((Path(folder) / "results.json").read_text())
    else:
        done = subprocess.run([sys.executable, str(ROOT / PLAIN)], check=True, stdout=subprocess.PIPE)
        results = json.loads(done.stdout)
    return Run(results, *(after - before for before, after in zip(began, clock(), strict=True)))


def scores(results: dict[str, Any]) -> np.ndarray:
    """All accuracies of a run."""
    found = [row[f"mean_{part}_score"] for row in results["scores"].values() for part in ("train", "test")]
    return np.array(found + [m[f"{part}_accuracy"] for m in results["models"].values() for part in ("train", "test")])


def run(rounds: int = 5, jobs: tuple[int, ...] = (1, 2), results: Path | None = None) -> dict[int, dict[str, float]]:
    """Measure and print one table.

    Args:
        rounds: How often each runs.
        jobs: Our numbers of processes.
        results: JSON file to write the tables to, such as results/NAME.json.
    """
    ratios: dict[int, dict[str, list[float]]] = {n: {"fits": [], "whole": [], "processor time": []} for n in jobs}
    difference = 0.0
    for number in range(rounds):
        order = [0, *jobs] if number % 2 == 0 else [*reversed(jobs), 0]
        found = {n: measure(n) for n in order}
        plain = found[0]
        for n in jobs:
            one = found[n]
            ratios[n]["fits"].append(one.results["seconds"] / plain.results["seconds"])
            ratios[n]["whole"].append(one.whole / plain.whole)
            ratios[n]["processor time"].append(one.processor / plain.processor)
            difference = max(difference, float(np.abs(scores(one.results) - scores(plain.results)).max()))
            latest = ", ".join(f"{name} {values[-1]:.3f}" for name, values in ratios[n].items())
            print(f"round {number + 1}, {n} processes: {latest} (plain {plain.whole:.0f} s)", flush=True)
    table = Table("processes", "time", "ours / plain", "quartiles", title=f"MNIST, 5 against 8, {rounds} rounds")
    medians: dict[int, dict[str, float]] = {n: {} for n in jobs}
    for n in jobs:
        for name, values in ratios[n].items():
            low, medians[n][name], high = (float(value) for value in np.quantile(values, [0.25, 0.5, 0.75]))
            table.add_row(str(n), name, f"{medians[n][name]:.2f}", f"{low:.2f} to {high:.2f}")
    note = f"largest difference of a score: {difference:.1e}"
    Console().print(table, note)
    write_record(results, [table], [note])
    return medians


if __name__ == "__main__":
    auto_cli(run)
