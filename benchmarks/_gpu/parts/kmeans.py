"""K-means: a pass and ten passes of ours, flash-kmeans and Faiss from the same centres, and whole fits.

Labels are compared after one pass, objectives after ten, both in float64 and with nothing of the compared programs.
Faiss runs on ten million rows only if the part has several minutes (`--cap 300`): it takes them from the host.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..rows import Bench, Row
from ..timing import sample, spread, synchronize

OURS, FAST, FLASH = "ours", 'ours, precision="tf32"', "flash-kmeans"
PASSES = 10
Fit = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""From rows, first centres and a number of passes to labels and centres."""


class Set(NamedTuple):
    """A generated set: rows of as many groups as centres, or of none."""

    count: int
    columns: int
    k: int
    groups: bool = True

    def __str__(self) -> str:
        return f"{self.count:,} x {self.columns}, k = {self.k:,}, {'in groups' if self.groups else 'without groups'}"


SETS = [
    Set(1_000_000, 64, 100),
    Set(1_000_000, 128, 1024),
    Set(10_000_000, 128, 4096),
    Set(10_000_000, 128, 4096, groups=False),
]


def generate(bench: Bench, case: Set) -> tuple[Tensor, Tensor]:
    """Return the rows and the first centres, some of the rows."""
    torch.manual_seed(0)
    rows = torch.randn(case.count, case.columns, device=bench.device)
    if case.groups:
        middles = 3 * torch.randn(case.k, case.columns, device=bench.device)
        for piece in rows.split(1 << 20):
            piece += middles[torch.randint(case.k, (len(piece),), device=bench.device)]
    return rows, rows[:: case.count // case.k][: case.k].clone()


def flash(rows: Tensor, centres: Tensor, passes: int) -> tuple[Tensor, Tensor]:
    """Run flash-kmeans."""
    from flash_kmeans import batch_kmeans_Euclid

    labels, found, *_ = batch_kmeans_Euclid(
        rows[None], n_clusters=len(centres), max_iters=passes, tol=-1.0, init_centroids=centres[None].clone()
    )
    return labels[0].long(), found[0].float()


def of_faiss(rows: Tensor, centres: Tensor, passes: int) -> tuple[Tensor, Tensor]:
    """Run faiss.Kmeans on a card."""
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        raise ModuleNotFoundError("no GPU in this Faiss", name="faiss-gpu")
    host = rows.cpu().numpy()
    model = faiss.Kmeans(rows.shape[1], len(centres), niter=passes, max_points_per_centroid=10**9, gpu=True)
    model.train(host, init_centroids=centres.cpu().numpy())
    labels = torch.from_numpy(model.index.search(host, 1)[1][:, 0])
    return labels.to(rows.device), torch.from_numpy(model.centroids).to(rows.device)


def ours(rows: Tensor, centres: Tensor, passes: int, **options: Any) -> tuple[Tensor, Tensor]:
    """Run ours."""
    from clustering import KMeans

    model = KMeans(len(centres), init=centres, n_init=1, max_iter=passes, tol=0.0, **options).fit(rows)
    return model.labels_, model.cluster_centers_


def timed(bench: Bench, fits: dict[str, Fit], rows: Tensor, centres: Tensor, rounds: int) -> Iterator[tuple[str, Row]]:
    """Yield for each name the milliseconds of a pass: what `PASSES` more take than one, over their number."""
    times: dict[str, list[float]] = {name: [] for name in fits}
    for _ in range(rounds):
        for name, fit in fits.items():
            taken = []
            for count in (1, 1 + PASSES):
                synchronize(bench.device)
                began = time.perf_counter()
                fit(rows, centres, count)
                synchronize(bench.device)
                taken.append(time.perf_counter() - began)
            times[name].append(1e3 * (taken[1] - taken[0]) / PASSES)
    for name, own in times.items():
        row: Row = {"ms": spread(own)}
        if FLASH in times:
            row["ratio"] = spread([mine / theirs for mine, theirs in zip(own, times[FLASH], strict=True)])
        yield name, row


def nearest(rows: Tensor, centres: Tensor) -> Tensor:
    """Return the nearest centre of each row in float64."""
    wide = centres.double()
    parts = [
        torch.cdist(piece.double(), wide, compute_mode="donot_use_mm_for_euclid_dist") for piece in rows.split(512)
    ]
    return torch.cat([part.argmin(dim=1) for part in parts])


def objective(rows: Tensor, centres: Tensor, labels: Tensor) -> float:
    """Return the sum of squared distances in float64."""
    wide, total = centres.double(), 0.0
    for piece, own in zip(rows.split(1 << 18), labels.split(1 << 18), strict=True):
        total += float((piece.double() - wide[own]).square().sum())
    return total


@contextmanager
def memory(row: Row, device: str) -> Iterator[None]:
    """Write into a row how much more memory of a card than before its block takes at most, in MB."""
    if device == "cpu":
        yield
        return
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    yield
    row["extra_mb"] = (torch.cuda.max_memory_allocated() - before) / 1e6


def compared(fit: Fit, rows: Tensor, centres: Tensor, ours_at: float | None) -> Row:
    """Return how many labels are wrong after one pass, and the objective after `PASSES`."""
    row: Row = {}
    with memory(row, rows.device.type):
        labels, _ = fit(rows, centres, 1)
    some = torch.arange(0, len(rows), max(1, len(rows) // 20_000), device=rows.device)
    row["wrong_ppm"] = 1e6 * float((nearest(rows[some], centres) != labels[some]).double().mean())
    labels, found = fit(rows, centres, PASSES)
    row["objective"] = objective(rows, found, labels)
    if ours_at is not None:
        row["excess_ppm"] = 1e6 * (row["objective"] / ours_at - 1)
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
        return {"ms": spread([sample(step, bench.device).wall for _ in range(3 if bench.quick else 9)])}
    finally:
        torch.set_float32_matmul_precision("highest")


def whole(rows: Tensor, k: int, ours_at: float | None) -> Row:
    """Measure a whole fit of ours: five starts, local search, until it has converged."""
    from clustering import KMeans

    row: Row = {}
    began = time.perf_counter()
    with memory(row, rows.device.type):
        model = KMeans(k, random_state=0, n_init=5).fit(rows)
    row |= {"seconds": time.perf_counter() - began, "note": f"{model.n_iter_} passes"}
    row["objective"] = objective(rows, model.cluster_centers_, model.labels_)
    return row if ours_at is None else row | {"excess_ppm": 1e6 * (row["objective"] / ours_at - 1)}


def scored(bench: Bench, count: int) -> Row:
    """Measure the adjusted Rand index of labels that are on the device."""
    from clustering import adjusted_rand_score

    first, second = (torch.randint(100, (count,), dtype=torch.uint8, device=bench.device) for _ in range(2))
    row: Row = {}
    with memory(row, bench.device):
        adjusted_rand_score(first, second)
    step = partial(adjusted_rand_score, first, second)
    return row | {"ms": spread([sample(step, bench.device).wall for _ in range(2 if bench.quick else 7)])}


def run(bench: Bench) -> None:
    """Measure each set with all programs in turn."""
    for case in [Set(2_000, 8, 5)] if bench.quick else SETS:
        rows, centres = generate(bench, case)
        large = len(rows) > 5_000_000
        fits: dict[str, Fit] = {OURS: ours}
        if bench.cuda:
            fits |= {FLASH: flash, FAST: partial(ours, precision="tf32")}
            if not large or bench.left() > 150:
                fits["faiss.Kmeans, GPU"] = of_faiss
        ready: dict[str, Fit] = {}
        best = None
        for name, fit in fits.items():
            row = bench.measure(str(case), name, partial(compared, fit, rows, centres, best), needs=8 if large else 4)
            if row is not None:
                ready[name] = fit
                best = row["objective"] if name == OURS else best
        if not bench.cuda:
            bench.row(str(case), FLASH, skipped="needs CUDA")
        rounds = 1 if bench.quick or bench.left() < 20 else 3 if large else 5
        if ready and bench.left() > (10 if large else 4):
            for name, row in timed(bench, ready, rows, centres, rounds):
                bench.row(str(case), name, **row)
        for name, precision in (("float32", "highest"), ("TF32", "high")):
            todo = partial(products, bench, rows, centres, precision)
            bench.measure(str(case), f"matrix products alone, {name}", todo, needs=6, cuda_only=name == "TF32")
        if not large:
            bench.measure(str(case), "ours, whole fit", partial(whole, rows, case.k, best), needs=15)
        del rows, centres
    count = 1_000 if bench.quick else 100_000_000
    case_of_labels = f"{count:,} labels, 100 clusters; a pass: one score"
    bench.measure(case_of_labels, "adjusted Rand index", partial(scored, bench, count))
