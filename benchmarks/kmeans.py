"""K-means: time and inertia of ours against faiss.Kmeans, scikit-learn and superkmeans, on four generated sets.

    OMP_NUM_THREADS=2 python benchmarks/kmeans.py
    OMP_NUM_THREADS=2 python benchmarks/kmeans.py --sets "[C]" --seeds 1

Sets, float32, from make_blobs(random_state=0): A 1,000,000 x 2, 10 clusters; B 1,000,000 x 64, 100; C 200,000 x 128,
1000; H is B with a standard deviation of 8; G, for a GPU, 10,000,000 x 128, 4096. For each seed all methods run one
after the other, and each time is divided by ours. Every time includes the final assignment and the inertia of all data
in float64. "Faiss, strong" is the best that Faiss alone offers: five k-means++ starts on its subsample, then 25
iterations on all data.
"""

import gc
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.datasets import make_blobs

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks._record import write_record
from clustering import KMeans

SETS = {"A": (1_000_000, 2, 10, 1.0), "B": (1_000_000, 64, 100, 1.0), "C": (200_000, 128, 1000, 1.0)}
SETS |= {"H": (1_000_000, 64, 100, 8.0), "G": (10_000_000, 128, 4096, 1.0)}
OURS, FAISS, STRONG, SKLEARN, SUPER = "ours", "faiss.Kmeans", "Faiss, strong", "scikit-learn", "superkmeans"
CHUNK = 1 << 14


class Run(NamedTuple):
    """Wall time and objective of one fit."""

    seconds: float
    inertia: float


def generate(name: str) -> np.ndarray:
    count, columns, k, std = SETS[name]
    if name == "G":  # the float64 of make_blobs would not fit
        rng = np.random.default_rng(0)
        centres = rng.uniform(-10, 10, (k, columns)).astype(np.float32)
        data = rng.standard_normal((count, columns), dtype=np.float32)
        for start in range(0, count, CHUNK):
            piece = data[start : start + CHUNK]
            piece += centres[rng.integers(0, k, len(piece))]
        return data
    return make_blobs(count, columns, centers=k, cluster_std=std, random_state=0)[0].astype(np.float32)


def inertia(data: np.ndarray, labels: np.ndarray, centres: np.ndarray) -> float:
    total, wide = 0.0, centres.astype(np.float64)
    for start in range(0, len(data), CHUNK):
        difference = data[start : start + CHUNK] - wide[labels[start : start + CHUNK]]
        total += float(np.einsum("ij,ij->", difference, difference))
    return total


def timed(method: Callable[[], float]) -> Run:
    gc.collect()
    began = time.perf_counter()
    value = method()
    return Run(time.perf_counter() - began, value)


def ours(data: np.ndarray, k: int, seed: int, **options: Any) -> float:
    return float(KMeans(k, random_state=seed, **options).fit(data).inertia_)


def of_faiss(data: np.ndarray, k: int, seed: int, gpu: bool = False) -> float:
    model = faiss.Kmeans(data.shape[1], k, niter=25, max_points_per_centroid=10**9, seed=seed + 1, gpu=gpu)
    model.train(data)
    return inertia(data, model.index.search(data, 1)[1][:, 0], model.centroids)


def strong(data: np.ndarray, k: int, seed: int, iterations: int = 25) -> float:
    model = faiss.Kmeans(data.shape[1], k, niter=25, nredo=5, seed=seed + 1)
    model.cp.init_method = faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS
    model.train(data)
    full = faiss.Kmeans(data.shape[1], k, niter=iterations, max_points_per_centroid=10**9, seed=seed + 1)
    full.train(data, init_centroids=model.centroids)
    return inertia(data, full.index.search(data, 1)[1][:, 0], full.centroids)


def of_sklearn(data: np.ndarray, k: int, seed: int) -> float:
    return float(SklearnKMeans(k, n_init=1, random_state=seed).fit(data).inertia_)


def of_super(data: np.ndarray, k: int, seed: int) -> float:
    import superkmeans

    model = superkmeans.SuperKMeans(n_clusters=k, dimensionality=data.shape[1])
    centres = model.train(data)
    return inertia(data, model.assign(data, centres).astype(np.int64), centres)


def floor(data: np.ndarray, k: int) -> float:
    """Return the seconds of the matrix products of one pass alone, the best of three."""
    rows, centres = torch.from_numpy(data), torch.from_numpy(data[:k].copy()).T
    out, best = torch.empty(CHUNK, k), float("inf")
    for _ in range(3):
        began = time.perf_counter()
        for piece in rows.split(CHUNK):
            torch.mm(piece, centres, out=out[: len(piece)])
        best = min(best, time.perf_counter() - began)
    return best


def passes(data: np.ndarray, k: int, device: str) -> tuple[float, float]:
    """Return the seconds of a pass over every row (predict) and of a mean pass of a ten-pass fit, the best of three."""
    first = data[np.linspace(0, len(data) - 1, k).astype(int)]
    model = KMeans(k, init=first, max_iter=1, device=device).fit(data)
    search = min(timed(lambda: model.predict(data) is None).seconds for _ in range(3))
    ten = partial(ours, data, k, 0, init=first, max_iter=10, tol=0.0, device=device)
    mean = min(timed(ten).seconds for _ in range(3))
    return search, mean / 10


def reaching(data: np.ndarray, k: int, seed: int, target: float, device: str) -> float | None:
    """Return the seconds of our fit with one start and the fewest passes that reaches an inertia."""
    for limit in (1, 2, 3, 5, 100):
        run = timed(lambda limit=limit: ours(data, k, seed, n_init=1, max_iter=limit, device=device))
        if run.inertia <= target:
            return run.seconds
    return None


def anonymous_bytes() -> int:
    gc.collect()
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))


def peak_memory(name: str) -> float:
    """Return the peak anonymous memory of a fit, less that before it, in MB (Linux)."""
    import threading

    data, k = generate(name), SETS[name][2]
    KMeans(2).fit(data[:1000])  # the memory that libraries keep
    peak, base, done = [0], anonymous_bytes(), threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            with open("/proc/self/status") as file:
                now = next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))
            peak[0] = max(peak[0], now)

    watcher = threading.Thread(target=watch)
    watcher.start()
    KMeans(k, random_state=0).fit(data)
    done.set()
    watcher.join()
    return (peak[0] - base) / 1e6


def methods(name: str, peers: bool, device: str) -> dict[str, Callable[[np.ndarray, int, int], float]]:
    chosen: dict[str, Callable[[np.ndarray, int, int], float]] = {OURS: partial(ours, device=device)}
    if not peers:
        return chosen
    if name == "G":
        return chosen | {"faiss.Kmeans, GPU": lambda data, k, seed: of_faiss(data, k, seed, gpu=True)} | flash()
    chosen[FAISS] = of_faiss
    if name != "H":  # scikit-learn takes minutes
        chosen[SKLEARN] = of_sklearn
    if name != "C":  # Faiss's k-means++ takes minutes for 1000 clusters
        chosen[STRONG] = strong
    if name == "C" and importlib.util.find_spec("superkmeans"):
        chosen[SUPER] = of_super
    return chosen


def flash() -> dict[str, Callable[[np.ndarray, int, int], float]]:
    """Return flash-kmeans, if it is installed."""
    if importlib.util.find_spec("flash_kmeans") is None:
        return {}
    from flash_kmeans import batch_kmeans_Euclid

    def fit(data: np.ndarray, k: int, seed: int) -> float:
        rows = torch.from_numpy(data).cuda()
        labels, centres, _ = batch_kmeans_Euclid(rows[None], n_clusters=k, max_iters=25, tol=0.0)
        return inertia(data, labels[0].cpu().numpy(), centres[0].float().cpu().numpy())

    return {"flash-kmeans": fit}


def measure(name: str, seeds: int, peers: bool, device: str) -> dict[str, Any]:
    data, k = generate(name), SETS[name][2]
    runs: dict[str, list[Run]] = {method: [] for method in methods(name, peers, device)}
    for seed in range(seeds):
        for method, function in methods(name, peers, device).items():
            runs[method].append(timed(lambda f=function, s=seed: f(data, k, s)))
            print(f"{name}, seed {seed}, {method}: {runs[method][-1]}", file=sys.stderr, flush=True)
    result: dict[str, Any] = {
        method: {
            "seconds": float(np.median([run.seconds for run in own])),
            "ratio": float(np.median([a.seconds / b.seconds for a, b in zip(own, runs[OURS], strict=True)])),
            "inertia": float(np.median([run.inertia for run in own])),
        }
        for method, own in runs.items()
    }
    if name in ("B", "C"):
        bare = floor(data, k)
        search, mean = passes(data, k, device)
        result["pass"] = {"every row / GEMM": search / bare, "mean of ten / GEMM": mean / bare}
    if STRONG in runs:
        early = timed(lambda: strong(data, k, 0, iterations=3))
        mine = reaching(data, k, 0, early.inertia, device)
        result["reach"] = {"Faiss, strong, 3 iterations": early.seconds, OURS: mine}
    if SUPER in runs:
        target = result[SUPER]
        result["reach"] = {SUPER: target["seconds"], OURS: reaching(data, k, 0, target["inertia"], device)}
    return result


def show(name: str, result: dict[str, Any], console: Console) -> tuple[Table, list[str]]:
    """Print a set's table and its further figures, and return them."""
    count, columns, k, _ = SETS[name]
    table = Table(title=f"{name}: {count:,} x {columns}, {k} clusters", title_justify="left")
    for column in ("method", "seconds", "time / ours", "inertia", "inertia / ours"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for method, row in result.items():
        if "ratio" in row:
            relative = row["inertia"] / result[OURS]["inertia"]
            table.add_row(
                method, f"{row['seconds']:.2f}", f"{row['ratio']:.1f}", f"{row['inertia']:.6g}", f"{relative:.6f}"
            )
    console.print(table)
    notes = [f"{extra}: {json.dumps(result[extra])}" for extra in ("pass", "reach") if extra in result]
    for note in notes:
        console.print(note)
    return table, [f"{name}, {note}" for note in notes]


def run(
    sets: tuple[str, ...] = ("A", "B", "C", "H"),
    seeds: int = 3,
    peers: bool = True,
    device: str = "auto",
    memory: str = "B",
    only_memory: bool = False,
    results: Path | None = None,
) -> dict[str, Any]:
    """Measure all methods and print one table per set.

    Args:
        sets: Data sets: A, B, C, H, and G for a GPU.
        seeds: Number of runs of every method.
        peers: Measure the other methods too.
        device: Where ours runs: auto, cpu or cuda.
        memory: Set on which memory is measured, in a separate process; empty for none.
        only_memory: Print only the memory (used by the process that measures it).
        results: JSON file to write the tables to, such as results/NAME.json.
    """
    if only_memory:
        print(peak_memory(memory))
        return {}
    console, tables, notes, measured = Console(), [], [], {}
    for name in sets:
        measured[name] = measure(name, seeds, peers, device)
        table, further = show(name, measured[name], console)
        tables.append(table)
        notes += further
    if memory:
        command = [sys.executable, __file__, "--only_memory=true", f"--memory={memory}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        measured["memory"] = {memory: float(done.stdout.splitlines()[-1])}
        notes.append(f"memory on {memory}: {measured['memory'][memory]:.0f} MB in addition to the data")
        console.print(notes[-1])
    notes.append(f"{seeds} seeds, {faiss.omp_get_max_threads()} threads; Faiss {faiss.__version__}")
    console.print(notes[-1])
    write_record(results, tables, notes)
    return measured


def main(args: list[str] | None = None) -> dict[str, Any]:
    results: dict[str, Any] = auto_cli(run, args=args)
    return results


if __name__ == "__main__":
    main()
