"""The coordinates in which distances are computed: close to the origin, at a scale that float32 can represent."""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import Tensor

from .data import Array, Float32, Float64, to_numpy

Metric = Literal["euclidean", "cosine"]

_REPRESENTABLE = 2.0**30
"""float32 represents the squared distances of values whose magnitude is between the inverse of this and this."""
_ENOUGH = 8_192
"""Number of rows that locate the data well enough."""


@dataclass(frozen=True)
class Coordinates:
    """Coordinates `(x - offset) * scale` (Euclidean) or `x / |x|` (cosine); by default those of the data.

    Each entry of the offset is a float32 number and the scale is a power of two. `x - offset` of a float32 `x`
    therefore rounds to the same float32 whether it is subtracted in float32 or in float64.
    """

    metric: Metric = "euclidean"
    offset: Float64 = field(default_factory=lambda: np.zeros(1))  # [D]
    scale: float = 1.0

    @classmethod
    def around(cls, rows: Array | Tensor, metric: Metric) -> "Coordinates":
        """Return coordinates whose origin is close to the mean of `rows`; values must have finite squares."""
        if metric == "cosine":
            return cls(metric, np.zeros(rows.shape[1]))
        wide = to_numpy(rows[:: 1 + len(rows) // _ENOUGH]).astype(np.float64)
        largest = np.abs(wide).max()
        if largest > 1e150:
            raise ValueError(f"X must be below 1e150 in absolute value, found {largest:.3g}, whose squares overflow")
        with np.errstate(over="ignore"):
            offset = wide.mean(axis=0).astype(np.float32).astype(np.float64)
        if not np.isfinite(offset).all():  # beyond float32: the offset only has to be close
            offset = wide.mean(axis=0)
        wide -= offset
        size = math.sqrt(float(np.einsum("ij,ij->", wide, wide)) / wide.size)
        representable = size == 0 or 1 / _REPRESENTABLE < size < _REPRESENTABLE
        return cls(metric, offset, 1.0 if representable else 2.0 ** -math.frexp(size)[1])

    def float64(self, rows: Array) -> Float64:
        """Return rows or centres of the data in these coordinates, in float64; the cosine refuses a row of zeros."""
        wide = rows.astype(np.float64)
        if self.metric == "cosine":
            wide /= _norms(wide)[:, None]
            return wide
        wide -= self.offset
        if self.scale != 1:
            wide *= self.scale
        return wide

    def float32(self, rows: Array) -> Float32:
        """Return the rows in these coordinates, float32 and C-contiguous, for the search."""
        if self.metric == "euclidean" and self.scale == 1 and rows.dtype in (np.float32, np.float16):
            narrow = np.empty(rows.shape, dtype=np.float32)
            return np.subtract(rows, self.offset.astype(np.float32), out=narrow, casting="unsafe")
        return self.float64(rows).astype(np.float32, order="C")

    def bound(self, low: float, high: float) -> float:
        """Return a bound on the absolute values in these coordinates of data between `low` and `high`."""
        if self.metric == "cosine":
            return 1.0
        return max(abs(high - float(self.offset.min())), abs(low - float(self.offset.max()))) * self.scale

    def restore(self, centres: Float64) -> Float64:
        """Return centres in the coordinates of the data."""
        return centres / self.scale + self.offset if self.metric == "euclidean" else centres

    def restore_objective(self, squares: float) -> float:
        """Return the objective of the data from a sum of squared distances in these coordinates."""
        # |x - c|^2 = 2 (1 - <x, c>) for unit vectors.
        return squares / 2 if self.metric == "cosine" else squares / self.scale**2


def _norms(rows: Float64) -> Float64:
    """Return the norm of each row `[N]` after dividing, in place, rows whose squares over- or underflow by a number."""
    with np.errstate(over="ignore", under="ignore"):
        squares: Float64 = np.einsum("ij,ij->i", rows, rows)
    extreme = np.flatnonzero(~((squares > 1e-250) & (squares < 1e300)))
    if len(extreme):
        largest = np.abs(rows[extreme]).max(axis=1)
        if not largest.all():
            raise ValueError("X contains a row of zeros, which has no direction: drop such rows for the cosine")
        rows[extreme] /= largest[:, None]
        squares[extreme] = np.einsum("ij,ij->i", rows[extreme], rows[extreme])
    return np.sqrt(squares)
