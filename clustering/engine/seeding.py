"""Where the iterations start: greedy k-means++ and random rows, on a sample.

References: Arthur, Vassilvitskii, "k-means++: the advantages of careful seeding" (SODA 2007), whose section on
experiments has the greedy variant: of ``2 + log k`` candidates drawn, the one that lowers the objective most is taken.
"""

import math
from collections.abc import Callable, Iterator

import faiss
import numpy as np
import numpy.typing as npt

from .coordinates import Float32, Float64

Rows = npt.NDArray[np.int64]

BATCH = 64
"""Candidates whose distances are computed in one matrix product."""


def plus_plus(rows: Float32, weights: Float64 | None, clusters: int, rng: np.random.Generator) -> Rows:
    """Numbers of ``clusters`` rows chosen by greedy k-means++.

    Args:
        rows: float32 ``[N, D]``, in the frame.
        weights: float64 ``[N]``, or None.
        clusters: How many.
        rng: Where the draws come from.
    """
    trials = 2 + int(math.log(clusters))
    chosen = np.empty(clusters, dtype=np.int64)
    chosen[0] = draw(np.ones(len(rows)) if weights is None else weights, 1, rng)[0]
    closest = faiss.pairwise_distances(rows[chosen[:1]], rows)[0]
    supply = candidates(rows, weights, lambda: closest, rng)
    for number in range(1, clusters):
        batch = [next(supply) for _ in range(trials)]
        distances = np.stack([distance for _, distance in batch])
        np.minimum(distances, closest, out=distances)
        # No matrix product of numpy's anywhere: its bits may depend on the number of threads.
        left = distances.sum(axis=1) if weights is None else np.einsum("ij,j->i", distances, weights)
        best = int(left.argmin())
        chosen[number], closest = batch[best][0], distances[best]
    return chosen


def candidates(
    rows: Float32, weights: Float64 | None, closest: Callable[[], Float32], rng: np.random.Generator
) -> Iterator[tuple[int, Float32]]:
    """Rows drawn with probabilities in proportion to ``weight * closest()``, each with its distances to all rows.

    They are drawn by the batch. One whose own ``closest`` has become smaller since its batch was drawn is passed over
    with the probability that makes up for it, so that every draw follows the present ``closest``.
    """
    while True:
        before = closest()
        batch = draw(before.astype(np.float64) if weights is None else before * weights, BATCH, rng)
        distances = faiss.pairwise_distances(rows[batch], rows)
        luck = rng.random(BATCH)
        some = False
        for row, distance, chance in zip(batch, distances, luck, strict=True):
            if closest()[row] >= chance * before[row]:
                some = True
                yield int(row), distance
        if not some:  # nothing is away from the centres any more
            yield int(batch[0]), distances[0]


def random_rows(count: int, weights: Float64 | None, clusters: int, rng: np.random.Generator) -> Rows:
    """Numbers of ``clusters`` different rows, each as likely as its weight says."""
    if weights is None:
        return rng.choice(count, clusters, replace=False, shuffle=False)
    enough = np.count_nonzero(weights) >= clusters
    return rng.choice(count, clusters, replace=False, p=weights / weights.sum() if enough else None)


def draw(potential: Float64, count: int, rng: np.random.Generator) -> Rows:
    """Numbers drawn with probabilities in proportion to ``potential``; evenly where it is zero everywhere."""
    running = np.cumsum(potential)
    if running[-1] <= 0:
        return rng.integers(0, len(potential), count)
    places = np.searchsorted(running, rng.random(count) * running[-1], side="right")
    return np.minimum(places, len(potential) - 1)
