"""Weighted rows added up by cluster, in float64 and in the order of the rows."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_array

from .grid import Float64

_NARROW = 8
"""Up to so many columns, one count a column costs less than to build a sparse matrix."""


def add_up(sums: Float64, clusters: npt.NDArray[Any], rows: npt.NDArray[Any], mass: Float64) -> None:
    """Add ``mass * rows`` to the sums of their clusters.

    Args:
        sums: float64 ``[K, D]``, changed in place.
        clusters: Integers ``[N]`` below ``K``.
        rows: ``[N, D]``.
        mass: float64 ``[N]``.
    """
    if rows.shape[1] <= _NARROW:
        for column in range(rows.shape[1]):
            sums[:, column] += np.bincount(clusters, rows[:, column] * mass, len(sums))
        return
    # A sparse [K, N] matrix with one entry a column, times the rows.
    starts = np.arange(len(mass) + 1, dtype=np.int32)
    sums += csc_array((mass, clusters.astype(np.int32), starts), (len(sums), len(mass))) @ rows
