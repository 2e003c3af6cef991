"""Leaving bad local optima where groups overlap: a cluster that should be two takes a centre of two that should be one.

Each cluster is cut in two by a few iterations of 2-means on its own rows; what that would lower the objective by is
compared with what it costs to send the rows of another cluster to their second nearest centres. Reference: Ismkhan,
"I-k-means-+: an iterative clustering algorithm based on an enhanced version of the k-means" (Pattern Recognition 2018).
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .coordinates import Float32
from .grid import Float64
from .local_search import Two
from .sums import add_up

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
