"""Rand index: ours against scikit-learn at ten million points, with 10 and with 1000 clusters.

    python benchmarks/rand_index.py

In each round both score the same labels, one after the other. Memory is the peak in addition to the labels, sampled by
another thread during the computation (Linux).
"""

import sys
import threading
import time
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from sklearn import metrics

sys.path.insert(0, str(Path(__file__).parent.parent))

import clustering
from benchmarks._record import write_record


def labels(n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    first = rng.integers(0, k, n)
    return first, np.where(rng.random(n) < 0.7, first, rng.integers(0, k, n))


def anonymous_bytes() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))


def extra_memory(first: np.ndarray, second: np.ndarray) -> float:
    """Return the peak memory of our score in addition to the labels, in MB."""
    clustering.adjusted_rand_score(first[:100_000], second[:100_000])
    base, peak, done = anonymous_bytes(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            peak[0] = max(peak[0], anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    clustering.adjusted_rand_score(first, second)
    done.set()
    watcher.join()
    return max(0, peak[0] - base) / 1e6


def run(n: int = 10_000_000, rounds: int = 5, results: Path | None = None) -> dict[int, float]:
    """Measure and print one table.

    Args:
        n: Number of points.
        rounds: Number of measurements of each method.
        results: JSON file to write the tables to, such as results/NAME.json.
    """
    table = Table(title=f"Adjusted Rand index of {n:,} points; 1 = ours")
    for column in ("clusters", "ours, s", "scikit-learn / ours", "quartiles", "extra MB", "difference"):
        table.add_column(column, justify="right")
    ratios = {}
    for k in (10, 1000):
        first, second = labels(n, k)
        memory = extra_memory(first, second)
        seconds, values = [], []
        for _ in range(rounds):
            began = time.perf_counter()
            mine = clustering.adjusted_rand_score(first, second)
            middle = time.perf_counter()
            theirs = metrics.adjusted_rand_score(first, second)
            seconds.append(middle - began)
            values.append((time.perf_counter() - middle) / seconds[-1])
        low, ratios[k], high = (float(value) for value in np.quantile(values, [0.25, 0.5, 0.75]))
        cells = (f"{np.median(seconds):.3f}", f"{ratios[k]:.1f}", f"{low:.1f} .. {high:.1f}", f"{memory:.1f}")
        table.add_row(str(k), *cells, f"{abs(mine - theirs):.1e}")
    Console().print(table)
    write_record(results, [table])
    return ratios


def main(args: list[str] | None = None) -> dict[int, float]:
    ratios: dict[int, float] = auto_cli(run, args=args)
    return ratios


if __name__ == "__main__":
    main()
