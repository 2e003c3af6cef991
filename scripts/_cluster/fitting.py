"""Fitting KMeans in one process or in those of torchrun, and writing the results."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from _common.console import print_rows, say
from _common.run import write_json
from clustering import KMeans
from clustering.shards import shard_bounds


def processes() -> int:
    """Return the number of processes that torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def fit(rows: Any, model: KMeans, write: Callable[[], object]) -> None:
    """Fit rows `[N, D]`, each process of torchrun its shard; then the first process calls `write`."""
    if processes() == 1:
        model.fit(rows)
        write()
        return
    dist.init_process_group("cuda:nccl,cpu:gloo" if torch.cuda.is_available() else "gloo")
    try:
        start, stop = shard_bounds(len(rows), dist.get_rank(), dist.get_world_size())
        model.fit_shard(rows[start:stop])
        if dist.get_rank() == 0:
            write()
        dist.barrier()
    finally:
        dist.destroy_process_group()


def write_fit(model: KMeans, rows: int, path: Path) -> None:
    """Write and print a fit's objective and number of passes."""
    results = {"n": rows, "k": model.n_clusters, "inertia": model.inertia_, "passes": model.n_iter_}
    write_json(path, results | {"processes": processes()})
    print_scores(f"{rows:,} rows", {"KMeans": {"inertia": model.inertia_, "passes": float(model.n_iter_)}})
    say(f"results     {path}")


def print_scores(title: str, scores: dict[str, dict[str, float]]) -> None:
    """Print a row a number, a column a method."""
    names = dict.fromkeys(name for one in scores.values() for name in one)
    print_rows(title, {name: {method: one[name] for method, one in scores.items() if name in one} for name in names})
