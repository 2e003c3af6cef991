"""Initial centres: greedy k-means++ and random rows, on a sample.

Reference: Arthur, Vassilvitskii, "k-means++: the advantages of careful seeding" (SODA 2007). The greedy variant, from
its section on experiments, draws `2 + log k` candidates and takes the one that lowers the objective most.
"""

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from .data import Array, Float32, Float64, Numbers
from .problem import Problem
from .rows import Rows

BATCH = 64
"""Number of candidates whose distances are computed in one matrix product."""


class Points(Protocol):
    """The rows of a sample, as `cpu.CpuRows` offers them; its methods allocate `N` times `K`, `B` or `D` numbers."""

    @property
    def problem(self) -> Problem:
        """The problem of the sample."""

    @property
    def count(self) -> int:
        """Number of rows."""

    @property
    def points(self) -> Float32:
        """float32 `[N, D]`: all rows in the problem's coordinates."""

    def squares_from(self, numbers: Numbers) -> Float32:
        """Return the squared distances from `B` of the rows to all rows: float32 `[B, N]`."""

    def search(self, centres: Float32, numbers: Numbers | None = None) -> tuple[Float32, Numbers]:
        """Return the two nearest of at least two centres, for all rows or those with the given numbers.

        Returns:
            float32 `[N, 2]` squared distances in ascending order, and int64 `[N, 2]` labels.
        """


def plus_plus(rows: Points, clusters: int, rng: np.random.Generator) -> Numbers:
    """Return the numbers of `clusters` rows, chosen by greedy k-means++."""
    weights = rows.problem.weights
    trials = 2 + int(math.log(clusters))
    chosen = np.empty(clusters, dtype=np.int64)
    chosen[0] = draw(np.ones(rows.count) if weights is None else weights, 1, rng)[0]
    closest = rows.squares_from(chosen[:1])[0]
    supply = candidates(rows, lambda: closest, rng)
    for number in range(1, clusters):
        batch = [next(supply) for _ in range(trials)]
        squares = np.stack([distances for _, distances in batch])
        np.minimum(squares, closest, out=squares)
        # Never a matrix product by numpy: its bits may depend on the number of threads.
        objectives = squares.sum(axis=1) if weights is None else np.einsum("ij,j->i", squares, weights)
        best = int(objectives.argmin())
        chosen[number], closest = batch[best][0], squares[best]
    return chosen


def candidates(rows: Points, closest: Callable[[], Float32], rng: np.random.Generator) -> Iterator[tuple[int, Float32]]:
    """Yield rows drawn with probabilities proportional to `weight * closest()`.

    Rows are drawn in batches. One whose `closest` has fallen since its batch was drawn is rejected with the probability
    that corrects for it, so every draw follows the current `closest`.

    Args:
        rows: A sample.
        closest: Returns each row's current squared distance to the nearest centre, `[N]`.
        rng: Random numbers.

    Yields:
        The number of a row, and its squared distances to all rows, `[N]`.
    """
    weights = rows.problem.weights
    while True:
        before = closest()
        batch = draw(before.astype(np.float64) if weights is None else before * weights, BATCH, rng)
        squares = rows.squares_from(batch)
        thresholds = rng.random(BATCH)
        accepted = False
        for row, distances, threshold in zip(batch, squares, thresholds, strict=True):
            if closest()[row] >= threshold * before[row]:
                accepted = True
                yield int(row), distances
        if not accepted:  # every row coincides with a centre by now
            yield int(batch[0]), squares[0]


def random_rows(rows: Rows, clusters: int, rng: np.random.Generator) -> Array:
    """Return the numbers of `clusters` different rows, drawn with probabilities proportional to their weights."""
    weights = rows.problem.weights
    if weights is None:
        return rng.choice(rows.count, clusters, replace=False, shuffle=False)
    enough = np.count_nonzero(weights) >= clusters
    return rng.choice(rows.count, clusters, replace=False, p=weights / weights.sum() if enough else None)


def draw(potential: Float64, count: int, rng: np.random.Generator) -> Numbers:
    """Draw `count` numbers with probabilities proportional to `potential`; uniformly if it is zero everywhere."""
    running = np.cumsum(potential)
    if running[-1] <= 0:
        return rng.integers(0, len(potential), count)
    places = np.searchsorted(running, rng.random(count) * running[-1], side="right")
    return np.minimum(places, len(potential) - 1)
