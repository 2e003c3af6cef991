"""Sums of the rows of each cluster, reproducible in any order of addition.

Multiples of one power of two, the grid, are added without rounding as long as the result stays below 2^53 grid steps.
Block sums are therefore rounded to a common grid first; from then on any order, on any number of threads or machines,
gives the same bits. The grid is fine enough that it costs about as much accuracy as a running float64 sum.
"""

import math

import numpy as np
from scipy.sparse import csc_array

from .data import Array, Float64

_NARROW = 8
"""Up to this many columns, one bincount per column costs less than building a sparse matrix."""


def grid_for(bound: float) -> float:
    """Return the grid for sums whose absolute value stays below `bound`."""
    return 2.0 ** (math.frexp(bound)[1] - 51) if bound > 0 else 1.0


def snap(values: Float64, grid: float) -> Float64:
    """Round values to multiples of `grid`, in place."""
    values /= grid
    np.rint(values, out=values)
    values *= grid
    return values


def add_by_cluster(sums: Float64, clusters: Array, rows: Array, weights: Float64) -> None:
    """Add `weights * rows` to the sums of their clusters, in float64 and in the order of the rows.

    Args:
        sums: float64 `[K, D]`, changed in place.
        clusters: Integers `[N]` below `K`.
        rows: `[N, D]`.
        weights: float64 `[N]`.
    """
    if rows.shape[1] <= _NARROW:
        for column in range(rows.shape[1]):
            sums[:, column] += np.bincount(clusters, rows[:, column] * weights, len(sums))
        return
    # A sparse [K, N] matrix with one entry per column, times the rows.
    starts = np.arange(len(weights) + 1, dtype=np.int32)
    sums += csc_array((weights, clusters.astype(np.int32), starts), (len(sums), len(weights))) @ rows
