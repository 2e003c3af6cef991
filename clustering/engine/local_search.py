"""Leaving bad local optima: a centre that two can share is moved to where one is missing.

Lloyd's iterations cannot do that: a group that got no centre keeps sharing one with its neighbour. So candidates are
drawn as in k-means++, and one replaces the centre whose removal costs least whenever the two together lower the
objective. Reference: Lattanzi, Sohler, "A better k-means++ algorithm via local search" (ICML 2019).

Leaving bad local optima where groups overlap: a cluster that should be two takes a centre of two that should be one.

Each cluster is cut in two by a few iterations of 2-means on its own rows; what that would lower the objective by is
compared with what it costs to send the rows of another cluster to their second nearest centres. Reference: Ismkhan,
"I-k-means-+: an iterative clustering algorithm based on an enhanced version of the k-means" (Pattern Recognition 2018).
"""

from typing import Any, NamedTuple

import faiss
import numpy as np
import numpy.typing as npt

from .coordinates import Float32, Float64, add_up
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


_ITERATIONS = 6
"""Of 2-means within the clusters."""
_ROUNDS = 8
_CLEAR = 2.0
"""A cut must promise so many times what the removal costs: on a sample any cut fits some noise."""


class _Cuts(NamedTuple):
    """Every cluster cut in two: ``[2, K, D]`` means and ``[K]`` what each cut lowers the objective by."""

    means: Float64
    gains: Float64


def split_and_merge(
    rows: Float32, weights: Float64 | None, centres: Float64, rng: np.random.Generator
) -> tuple[Float64, int]:
    """Centres after the search, and how many were moved.

    Args:
        rows: float32 ``[N, D]``, in the frame.
        weights: float64 ``[N]``, or None.
        centres: float64 ``[K, D]``.
        rng: Where the first cuts come from.
    """
    if len(centres) < 3:
        return centres, 0
    mass = np.ones(len(rows)) if weights is None else weights
    two, moved, most = Two(rows, centres.astype(np.float32)), 0, len(centres)
    for _ in range(_ROUNDS):
        cuts = _cut(two, mass, rng)
        cost = np.bincount(two.labels[:, 0], (two.squares[:, 1] - two.squares[:, 0]) * mass, len(centres))
        pairs = _pairs(cuts.gains, cost, most)
        if not pairs:
            break
        trial = two.centres.astype(np.float64)
        for wide, spare in pairs:
            trial[wide], trial[spare] = cuts.means[:, wide]
        after = _settled(rows, mass, trial)
        if float((after.squares[:, 0] * mass).sum()) < float((two.squares[:, 0] * mass).sum()):
            two, moved = after, moved + len(pairs)
        elif len(pairs) == 1:
            break
        else:
            most = len(pairs) // 2
    return two.centres.astype(np.float64), moved


def _pairs(gains: Float64, cost: npt.NDArray[Any], most: int) -> list[tuple[int, int]]:
    """Clusters to cut with clusters to give up, each in one pair at most, the most worthwhile first."""
    pairs: list[tuple[int, int]] = []
    used: set[int] = set()
    spare = iter(np.argsort(cost, kind="stable"))
    for wide in np.argsort(-gains, kind="stable"):
        if int(wide) in used or len(pairs) >= most:
            break
        other = next((int(j) for j in spare if j != wide and int(j) not in used), None)
        if other is None or gains[wide] <= _CLEAR * cost[other]:
            break
        used |= {int(wide), other}
        pairs.append((int(wide), other))
    return pairs


def _cut(two: Two, mass: Float64, rng: np.random.Generator) -> _Cuts:
    """Cut each cluster: first across the line from its centre to a row drawn far from it."""
    labels, clusters = two.labels[:, 0], len(two.centres)
    offsets = two.rows - two.centres[labels]
    keys = np.log(np.maximum(two.squares[:, 0] * mass, 1e-300)) + rng.gumbel(size=len(labels))
    order = np.argsort(keys, kind="stable")
    drawn = np.zeros(clusters, dtype=np.int64)
    drawn[labels[order]] = order  # the last, largest, of each cluster stays
    normals, thresholds = offsets[drawn], np.zeros(clusters, dtype=np.float32)
    for _ in range(_ITERATIONS):
        side = np.einsum("ij,ij->i", offsets, normals[labels]) > thresholds[labels]
        place = labels + clusters * side
        total = np.bincount(place, mass, 2 * clusters)
        means = np.zeros((2 * clusters, offsets.shape[1]))
        add_up(means, place, offsets, mass)
        means /= np.maximum(total, 1e-300)[:, None]
        low, high = means[:clusters], means[clusters:]
        normals = (high - low).astype(np.float32)
        squares = np.einsum("ij,ij->i", means, means)
        thresholds = ((squares[clusters:] - squares[:clusters]) / 2).astype(np.float32)
    low_weight, high_weight = total[:clusters], total[clusters:]
    both = np.maximum(low_weight + high_weight, 1e-300)
    difference = high - low
    gains = low_weight * high_weight / both * np.einsum("ij,ij->i", difference, difference)
    return _Cuts(means.reshape(2, clusters, -1) + two.centres, gains)


def _settled(rows: Float32, mass: Float64, centres: Float64) -> Two:
    """The two nearest centres of each row after two of Lloyd's iterations."""
    for _ in range(2):
        two = Two(rows, centres.astype(np.float32))
        place = two.labels[:, 0]
        total = np.bincount(place, mass, len(centres))[:, None]
        sums = np.zeros_like(centres)
        add_up(sums, place, rows, mass)
        centres = np.where(total > 0, sums / np.maximum(total, 1e-300), centres)
    return Two(rows, centres.astype(np.float32))
