"""The coordinates in which distances are computed: near the origin, at a scale that float32 holds.

Weighted rows added up by cluster, in float64 and in the order of the rows.

Sums of floating-point numbers that do not depend on the order of the additions.

Numbers that are multiples of one power of two, the grid, are added without rounding as long as the result stays below
2^53 grid steps. So block sums are rounded to a common grid first, and from there on any order, on any number of threads
or machines, gives the same bits. The grid is so fine that it costs about what rounding a running float64 sum costs.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_array

Float64 = npt.NDArray[np.float64]


def grid_for(bound: float) -> float:
    """The grid for sums whose absolute value stays below ``bound``."""
    return 2.0 ** (math.frexp(bound)[1] - 51) if bound > 0 else 1.0


def snap(values: Float64, grid: float) -> Float64:
    """Round to multiples of ``grid``, in place."""
    values /= grid
    np.rint(values, out=values)
    values *= grid
    return values


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


Float32 = npt.NDArray[np.float32]
Metric = Literal["euclidean", "cosine"]

_HELD = 2.0**30
"""Where magnitudes lie between the inverse of this and this, float32 holds the squared distances as they are."""
_ENOUGH = 8_192
"""Rows that say well enough where the data are."""


@dataclass(frozen=True)
class Frame:
    """Coordinates ``(x - offset) * scale`` (Euclidean) or ``x / |x|`` (cosine).

    The offset is a float32 number in each coordinate and the scale a power of two, so that ``float32 - offset`` rounds
    to the same float32 whether it is subtracted in float32 or in float64.

    Attributes:
        metric: ``"euclidean"`` or ``"cosine"``.
        offset: float64 ``[D]``.
        scale: A power of two.
    """

    metric: Metric
    offset: Float64
    scale: float = 1.0

    @classmethod
    def around(cls, rows: npt.NDArray[Any], metric: Metric) -> "Frame":
        """The frame whose origin is about the mean of ``rows``."""
        if metric == "cosine":
            return cls(metric, np.zeros(rows.shape[1]))
        wide = rows[:: 1 + len(rows) // _ENOUGH].astype(np.float64)
        largest = np.abs(wide).max()
        if largest > 1e150:
            raise ValueError(f"X holds values as large as {largest:.3g}, whose squares overflow: scale it down")
        with np.errstate(over="ignore"):
            offset = wide.mean(axis=0).astype(np.float32).astype(np.float64)
        if not np.isfinite(offset).all():  # beyond float32: the offset only has to be near
            offset = wide.mean(axis=0)
        wide -= offset
        size = math.sqrt(float(np.einsum("ij,ij->", wide, wide)) / wide.size)
        held = size == 0 or 1 / _HELD < size < _HELD
        return cls(metric, offset, 1.0 if held else 2.0 ** -math.frexp(size)[1])

    def exact(self, rows: npt.NDArray[Any]) -> Float64:
        """The rows in these coordinates, in float64."""
        wide = rows.astype(np.float64)
        if self.metric == "cosine":
            norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
            if not norms.all():
                raise ValueError("X holds a row of zeros, which has no direction: leave such rows out for the cosine")
            wide /= norms[:, None]
            return wide
        wide -= self.offset
        if self.scale != 1:
            wide *= self.scale
        return wide

    def narrow(self, rows: npt.NDArray[Any]) -> Float32:
        """The rows in these coordinates, float32 and C-contiguous, for the search."""
        if self.metric == "euclidean" and self.scale == 1 and rows.dtype in (np.float32, np.float16):
            narrow = np.empty(rows.shape, dtype=np.float32)
            return np.subtract(rows, self.offset.astype(np.float32), out=narrow, casting="unsafe")
        return self.exact(rows).astype(np.float32, order="C")

    def outside(self, centres: Float64) -> Float64:
        """Centres in the data's own coordinates."""
        return centres / self.scale + self.offset if self.metric == "euclidean" else centres

    def inside(self, centres: npt.NDArray[Any]) -> Float64:
        """Centres given in the data's own coordinates, in these."""
        return self.exact(centres)
