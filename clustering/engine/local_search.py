"""Local search: escapes from poor local optima that Lloyd's iterations cannot leave.

`swap` relocates redundant centres to regions that lack one: candidates are drawn as in k-means++, and one replaces the
centre whose removal costs least whenever the exchange lowers the objective. `split_and_merge` works where groups
overlap: it splits one cluster in two by 2-means and removes the centre of another if the split gains more than the
removal costs.

References: Lattanzi, Sohler, "A better k-means++ algorithm via local search" (ICML 2019); Ismkhan, "I-k-means-+: an
iterative clustering algorithm based on an enhanced version of the k-means" (Pattern Recognition 2018).
"""

import numpy as np

from .data import Array, Float32, Float64
from .seeding import BATCH, Points, candidates
from .sums import add_by_cluster

MIN_GAIN = 1e-3
"""A swap must lower the objective by this share of the mean objective per cluster."""
CUT_ITERATIONS = 6
"""Iterations of 2-means within the clusters."""
ROUNDS = 8
"""Largest number of rounds of split-and-merge."""
_CLEAR = 2.0
"""A split must gain this many times the cost of the removal: on a sample every split fits some noise."""


class TwoNearest:
    """The two nearest centres of each row, updated when single centres are replaced.

    Attributes:
        centres: float32 `[K, D]`.
        squares: float32 `[N, 2]`, squared distances in ascending order.
        labels: int64 `[N, 2]`.
    """

    def __init__(self, rows: Points, centres: Float64) -> None:
        self.rows, self.centres = rows, centres.astype(np.float32)
        self.squares, self.labels = rows.search(self.centres)
        weights = rows.problem.weights
        self.weights = np.ones(rows.count) if weights is None else weights

    @property
    def objective(self) -> float:
        """Weighted sum of squared distances to the nearest centres."""
        return float((self.squares[:, 0] * self.weights).sum())

    def replace(self, cluster: int, row: Float32, distances: Float32) -> None:
        """Move the centre `cluster` to `row`, whose squared distances to all rows are given."""
        self.centres[cluster] = row
        lost = (self.labels == cluster).any(axis=1)
        nearest, second = distances < self.squares[:, 0], distances < self.squares[:, 1]
        shift = nearest & ~lost
        self.squares[shift, 1], self.labels[shift, 1] = self.squares[shift, 0], self.labels[shift, 0]
        self.squares[shift, 0], self.labels[shift, 0] = distances[shift], cluster
        between = second & ~nearest & ~lost
        self.squares[between, 1], self.labels[between, 1] = distances[between], cluster
        again = np.flatnonzero(lost)
        if len(again):
            self.squares[again], self.labels[again] = self.rows.search(self.centres, again)


def swap(rows: Points, centres: Float64, rng: np.random.Generator, limit: int) -> tuple[Float64, int]:
    """Replace centres by rows while that lowers the objective.

    The search ends after a batch of candidates without success, or after `limit` candidates. Returns the centres
    `[K, D]` and the number of replacements.
    """
    clusters = len(centres)
    if clusters < 2:
        return centres, 0
    two = TwoNearest(rows, centres)
    supply = candidates(rows, lambda: two.squares[:, 0], rng)
    moved = idle = 0
    for _ in range(limit):
        row, distances = next(supply)
        first, second = two.squares.T
        with_row = np.minimum(first, distances)
        # Without its centre a row goes to its second nearest, or to the candidate.
        increase = (np.minimum(second, distances) - with_row) * two.weights
        removal = np.bincount(two.labels[:, 0], increase, clusters)
        cluster = int(removal.argmin())
        gain = float(((first - with_row) * two.weights).sum()) - removal[cluster]
        idle += 1
        if gain > MIN_GAIN * two.objective / clusters:
            two.replace(cluster, rows.points[row], distances)
            moved, idle = moved + 1, 0
        if idle >= BATCH:
            break
    return two.centres.astype(np.float64), moved


def split_and_merge(rows: Points, centres: Float64, rng: np.random.Generator) -> tuple[Float64, int]:
    """Split clusters and remove others while that lowers the objective; return the centres and the number moved."""
    clusters = len(centres)
    if clusters < 3:
        return centres, 0
    two, moved, most = TwoNearest(rows, centres), 0, clusters
    for _ in range(ROUNDS):
        halves, gains = _cut(two, rng)
        cost = np.bincount(two.labels[:, 0], (two.squares[:, 1] - two.squares[:, 0]) * two.weights, clusters)
        chosen = pairs(gains, cost, most)
        if not chosen:
            break
        trial = two.centres.astype(np.float64)
        for split, removed in chosen:
            trial[split], trial[removed] = halves[:, split]
        after = _improve(rows, trial)
        if after.objective < two.objective:
            two, moved = after, moved + len(chosen)
        elif len(chosen) == 1:
            break
        else:
            most = len(chosen) // 2
    return two.centres.astype(np.float64), moved


def pairs(gains: Float64, cost: Array, most: int) -> list[tuple[int, int]]:
    """Pair clusters to split with clusters to remove, each in at most one pair, the most profitable first."""
    chosen: list[tuple[int, int]] = []
    used: set[int] = set()
    removable = iter(np.argsort(cost, kind="stable"))
    for split in np.argsort(-gains, kind="stable"):
        if int(split) in used or len(chosen) >= most:
            break
        removed = next((int(j) for j in removable if j != split and int(j) not in used), None)
        if removed is None or gains[split] <= _CLEAR * cost[removed]:
            break
        used |= {int(split), removed}
        chosen.append((int(split), removed))
    return chosen


def _cut(two: TwoNearest, rng: np.random.Generator) -> tuple[Float64, Float64]:
    """Cut each cluster in two by 2-means, which starts from the centre and a row drawn far from it.

    Returns the means of both halves, `[2, K, D]`, and how much each cut lowers the objective, `[K]`.
    """
    labels, clusters, weights = two.labels[:, 0], len(two.centres), two.weights
    offsets = two.rows.points - two.centres[labels]
    keys = np.log(np.maximum(two.squares[:, 0] * weights, 1e-300)) + rng.gumbel(size=len(labels))
    order = np.argsort(keys, kind="stable")
    drawn = np.zeros(clusters, dtype=np.int64)
    drawn[labels[order]] = order  # the last, largest, of each cluster remains
    normals, thresholds = offsets[drawn], np.zeros(clusters, dtype=np.float32)
    for _ in range(CUT_ITERATIONS):
        side = np.einsum("ij,ij->i", offsets, normals[labels]) > thresholds[labels]
        half = labels + clusters * side
        total = np.bincount(half, weights, 2 * clusters)
        means = np.zeros((2 * clusters, offsets.shape[1]))
        add_by_cluster(means, half, offsets, weights)
        means /= np.maximum(total, 1e-300)[:, None]
        low, high = means[:clusters], means[clusters:]
        normals = (high - low).astype(np.float32)
        squares = np.einsum("ij,ij->i", means, means)
        thresholds = ((squares[clusters:] - squares[:clusters]) / 2).astype(np.float32)
    low_weight, high_weight = total[:clusters], total[clusters:]
    both = np.maximum(low_weight + high_weight, 1e-300)
    difference = high - low
    gains = low_weight * high_weight / both * np.einsum("ij,ij->i", difference, difference)
    return means.reshape(2, clusters, -1) + two.centres, gains


def _improve(rows: Points, centres: Float64) -> TwoNearest:
    """Return the two nearest centres of each row after two of Lloyd's iterations."""
    for _ in range(2):
        two = TwoNearest(rows, centres)
        total = np.bincount(two.labels[:, 0], two.weights, len(centres))[:, None]
        sums = np.zeros_like(centres)
        add_by_cluster(sums, two.labels[:, 0], rows.points, two.weights)
        centres = np.where(total > 0, sums / np.maximum(total, 1e-300), centres)
    return TwoNearest(rows, centres)
