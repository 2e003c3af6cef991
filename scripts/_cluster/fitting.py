"""Fitting KMeans in one process or in the processes of torchrun, and the results of it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def _group() -> Iterator[None]:
    """The process group of torchrun."""
    dist.init_process_group("cuda:nccl,cpu:gloo" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def fit_shard(rows: Any, model: KMeans, out: Path | None = None, results: Callable[[], Path] | None = None) -> None:
    """Fit this process's share of the rows; the first process writes.

    Args:
        rows: All rows `[N, D]`.
        model: Estimator to fit.
        out: The npz file for the centres; its results go beside it.
        results: Returns the file for the results where there is no `out`.
    """
    with _group():
        rank, size = dist.get_rank(), dist.get_world_size()
        start, stop = shard_bounds(len(rows), rank, size)
        model.fit_shard(rows[start:stop])
        if rank == 0:
            if out is not None:
                model.save(out)
                write_fit(model, len(rows), out.with_suffix(".json"))
            elif results is not None:
                write_fit(model, len(rows), results())
        dist.barrier()


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
