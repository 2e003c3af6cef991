"""One pass of k-means: ours, flash-kmeans, and the matrix products alone."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..rows import Bench, Row
from ..timing import sample, spread, synchronize

OURS = "ours"


def one_pass(bench: Bench, fit: Callable[[int], Any], passes: int, rounds: int) -> Row:
    """Return the milliseconds of a pass: what `passes` more take than one, over their number."""
    fit(1)
    synchronize(bench.device)
    times = []
    for _ in range(rounds):
        taken = []
        for count in (1, 1 + passes):
            began = time.perf_counter()
            fit(count)
            synchronize(bench.device)
            taken.append(time.perf_counter() - began)
        times.append(1e3 * (taken[1] - taken[0]) / passes)
    return {"ms": spread(times)}


def of_flash(bench: Bench, rows: Tensor, centres: Tensor) -> Row:
    """Measure flash-kmeans from given centres."""
    from flash_kmeans import batch_kmeans_Euclid

    def fit(passes: int) -> Any:
        return batch_kmeans_Euclid(
            rows[None], n_clusters=len(centres), max_iters=passes, tol=-1.0, init_centroids=centres[None].clone()
        )

    return one_pass(bench, fit, 10, 2 if bench.quick else 5)


def of_ours(bench: Bench, rows: Any, centres: Any, rounds: int) -> Row:
    """Measure ours from given centres."""
    from clustering import KMeans

    taken = set()

    def fit(passes: int) -> None:
        model = KMeans(len(centres), init=centres, n_init=1, max_iter=passes, tol=0.0).fit(rows)
        taken.add(int(model.n_iter_))

    row = one_pass(bench, fit, 2, rounds)
    if taken != {1, 3}:
        raise RuntimeError(f"fits of 1 and 3 passes are compared, found {sorted(taken)}")
    return row


def products(bench: Bench, rows: Tensor, centres: Tensor, precision: str) -> Row:
    """Measure the matrix products of a pass, in pieces of 262,144 rows."""
    transposed, piece = centres.T.contiguous(), 1 << 18
    out = torch.empty(min(piece, len(rows)), len(centres), device=rows.device)

    def step() -> None:
        for part in rows.split(piece):
            torch.mm(part, transposed, out=out[: len(part)])

    torch.set_float32_matmul_precision(precision)
    try:
        step()
        return {"ms": spread([sample(step, bench.device).wall for _ in range(3 if bench.quick else 15)])}
    finally:
        torch.set_float32_matmul_precision("highest")


def run(bench: Bench) -> None:
    """Measure a pass over each set, ours last: the engine of a CPU may take the rest of the time."""
    sets = [(2_000, 8, 5)] if bench.quick else [(1_000_000, 64, 100), (1_000_000, 128, 1024)]
    later = []
    for count, columns, k in sets:
        case = f"{count:,} x {columns}, k = {k}"
        torch.manual_seed(0)
        rows = torch.randn(count, columns, device=bench.device)
        rows += 3 * torch.randn(k, columns, device=bench.device)[torch.randint(k, (count,), device=bench.device)]
        centres = rows[:: count // k][:k].clone()
        for name, precision in (("float32", "highest"), ("TF32", "high")):
            todo = partial(products, bench, rows, centres, precision)
            bench.measure(case, f"matrix products alone, {name}", todo, cuda_only=name == "TF32")
        bench.measure(case, "flash-kmeans", partial(of_flash, bench, rows, centres), needs=10, cuda_only=True)
        rounds = 1 if bench.quick or k > 500 else 2
        later.append((case, f"{OURS}, rows in the host's memory", rows.cpu().numpy(), centres.cpu().numpy(), rounds))
        if bench.cuda:
            later.append((case, f"{OURS}, rows on the card", rows, centres, rounds))
        del rows, centres
    for case, name, of_rows, of_centres, rounds in later:
        bench.measure(case, name, partial(of_ours, bench, of_rows, of_centres, rounds), needs=6)
