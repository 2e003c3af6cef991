"""Leaving bad local optima: a centre that two can share is moved to where one is missing.

Lloyd's iterations cannot do that: a group that got no centre keeps sharing one with its neighbour. So candidates are
drawn as in k-means++, and one replaces the centre whose removal costs least whenever the two together lower the
objective. Reference: Lattanzi, Sohler, "A better k-means++ algorithm via local search" (ICML 2019).
"""

import faiss
import numpy as np
import numpy.typing as npt

from .coordinates import Float32
from .grid import Float64
from .seeding import BATCH, candidates

_WORTH = 1e-3
"""A swap must lower the objective by this share of what a cluster has of it in the mean."""


class Two:
    """The two nearest centres of each row, kept up to date while single centres are replaced."""

    def __init__(self, rows: Float32, centres: Float32) -> None:
        self.rows, self.centres = rows, centres
        self.squares: Float32
        self.labels: npt.NDArray[np.int64]
        self.squares, self.labels = self._search(rows)

    def _search(self, rows: Float32) -> tuple[Float32, npt.NDArray[np.int64]]:
        index = faiss.IndexFlatL2(rows.shape[1])
        index.add(self.centres)
        squares, labels = index.search(rows, 2)
        return np.maximum(squares, 0), labels

    def replace(self, cluster: int, row: Float32, distances: Float32) -> None:
        """Put the centre ``cluster`` at ``row``, whose distances to all rows are given."""
        self.centres[cluster] = row
        lost = (self.labels == cluster).any(axis=1)
        nearer, near = distances < self.squares[:, 0], distances < self.squares[:, 1]
        shift = nearer & ~lost
        self.squares[shift, 1], self.labels[shift, 1] = self.squares[shift, 0], self.labels[shift, 0]
        self.squares[shift, 0], self.labels[shift, 0] = distances[shift], cluster
        second = near & ~nearer & ~lost
        self.squares[second, 1], self.labels[second, 1] = distances[second], cluster
        again = np.flatnonzero(lost)
        if len(again):
            self.squares[again], self.labels[again] = self._search(self.rows[again])


def swap(
    rows: Float32, weights: Float64 | None, centres: Float64, rng: np.random.Generator, limit: int
) -> tuple[Float64, int]:
    """Centres after a local search, and how many were moved.

    The search ends when a batch of candidates has brought nothing, or after ``limit`` candidates.

    Args:
        rows: float32 ``[N, D]``, in the frame.
        weights: float64 ``[N]``, or None.
        centres: float64 ``[K, D]``.
        rng: Where the draws come from.
        limit: The largest number of candidates.
    """
    clusters = len(centres)
    if clusters < 2:
        return centres, 0
    two = Two(rows, centres.astype(np.float32))
    mass = np.ones(len(rows)) if weights is None else weights
    supply = candidates(rows, weights, lambda: two.squares[:, 0], rng)
    moved = idle = 0
    for _ in range(limit):
        row, distances = next(supply)
        first, second = two.squares.T
        left = np.minimum(first, distances)
        # Without its centre a row goes to the second nearest, or to the candidate.
        dearer = (np.minimum(second, distances) - left) * mass
        removal = np.bincount(two.labels[:, 0], dearer, clusters)
        cluster = int(removal.argmin())
        gain = float(((first - left) * mass).sum()) - removal[cluster]
        idle += 1
        if gain > _WORTH * float((first * mass).sum()) / clusters:
            two.replace(cluster, rows[row], distances)
            moved, idle = moved + 1, 0
        if idle >= BATCH:
            break
    return two.centres.astype(np.float64), moved
