"""Linear support vector machines on MNIST, 5 against 8: scripts/linear_svm.py against plain scikit-learn.

    DATA_DIR=... python benchmarks/linear_svm.py

In each round both run once, as processes of their own, in turn first: the plain script is
tests/reference/linear_svm.py. The ratios are of the fits alone, and of the whole processes with their imports (and with
our tables and figure, which the plain script does not make).
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
OURS, PLAIN = "scripts/linear_svm.py", "tests/reference/linear_svm.py"


def ours(jobs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        words = ["--data", "mnist", "--output", folder, "--jobs", str(jobs)]
        subprocess.run([sys.executable, str(ROOT / OURS), *words], check=True, stdout=subprocess.DEVNULL)
        return json.loads((Path(folder) / "results.json").read_text())


def plain() -> dict[str, Any]:
    command = [sys.executable, str(ROOT / PLAIN)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def scores(results: dict[str, Any]) -> np.ndarray:
    """All accuracies of a run."""
    found = [row[f"mean_{part}_score"] for row in results["scores"].values() for part in ("train", "test")]
    return np.array(found + [m[f"{part}_accuracy"] for m in results["models"].values() for part in ("train", "test")])


def run(rounds: int = 5, jobs: int = 2) -> dict[str, float]:
    """Measure and print one table.

    Args:
        rounds: How often each runs.
        jobs: Our processes.
    """
    fits, whole, differences = [], [], []
    for number in range(rounds):
        found: dict[str, Any] = {}
        seconds = {}
        for name in (OURS, PLAIN) if number % 2 else (PLAIN, OURS):
            began = time.perf_counter()
            found[name] = ours(jobs) if name == OURS else plain()
            seconds[name] = time.perf_counter() - began
        fits.append(found[OURS]["seconds"] / found[PLAIN]["seconds"])
        whole.append(seconds[OURS] / seconds[PLAIN])
        differences.append(float(np.abs(scores(found[OURS]) - scores(found[PLAIN])).max()))
        print(f"round {number + 1}: fits {fits[-1]:.3f}, whole {whole[-1]:.3f} of {seconds[PLAIN]:.0f} s", flush=True)
    table = Table("", "ours / plain", "quartiles", title=f"MNIST, 5 against 8, {jobs} processes, {rounds} rounds")
    medians = {}
    for name, ratios in {"fits": fits, "whole process": whole}.items():
        low, medians[name], high = (float(value) for value in np.quantile(ratios, [0.25, 0.5, 0.75]))
        table.add_row(name, f"{medians[name]:.2f}", f"{low:.2f} to {high:.2f}")
    Console().print(table)
    print(f"largest difference of a score: {max(differences):.1e}")
    return medians | {"difference": max(differences)}


if __name__ == "__main__":
    auto_cli(run)
