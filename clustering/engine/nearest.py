"""The nearest centre of each row, and its margin over the second nearest: the distance computations, done by Faiss."""

from contextlib import nullcontext
from typing import Any

import faiss
import numpy as np

from .coordinates import Coordinates
from .data import Array, Float32, Float64, Labels
from .parallel import Gpus

_FEW = 16
"""Up to this many centres, a table of all distances is faster than a search."""
_ROUNDING = 2.0**-19
"""Error bound of the difference of two squared distances in float32, in units of the squared norms."""


class Nearest:
    """Searches among fixed centres; several threads may call it.

    Faiss computes in float32, and its last bits depend on how many rows are searched together. Rows whose two nearest
    centres are too close for float32 are decided in float64, so that the label of a row does not depend on the others.

    The centres are float64 `[K, D]` in `coordinates`; without `gpus` the CPU searches.
    """

    def __init__(self, centres: Float64, coordinates: Coordinates, gpus: Gpus | None = None) -> None:
        self._centres, self._coordinates = centres, coordinates
        self._narrow: Float32 = np.ascontiguousarray(centres, dtype=np.float32)
        self._norm = float(np.einsum("ij,ij->i", centres, centres).max())
        self._index: Any = faiss.IndexFlatL2(centres.shape[1])
        self._index.add(self._narrow)
        self._few = len(centres) <= _FEW and gpus is None
        self._lock = nullcontext() if gpus is None else gpus.lock  # other threads prepare their blocks meanwhile
        if gpus is not None:
            with self._lock:
                self._index = faiss.index_cpu_to_gpu_multiple_py(gpus.resources, self._index, gpus=gpus.numbers)

    def search(self, rows: Array) -> tuple[Labels, Float32]:
        """Find the nearest centres of rows `[N, D]` of any type, in the coordinates of the data.

        Returns:
            int32 `[N]` labels, the first of equally near centres; and float32 `[N]` margins, a lower bound on how much
            farther every other centre is, at most 0 where float32 cannot separate them.
        """
        if len(self._centres) == 1:
            return np.zeros(len(rows), dtype=np.int32), np.full(len(rows), np.inf, dtype=np.float32)
        narrow = self._coordinates.float32(rows)
        # d2 - d1 = (d2^2 - d1^2) / (d2 + d1), whose numerator float32 gives up to the doubt.
        doubt = np.float32(_ROUNDING * (self._norm + float(np.einsum("ij,ij->i", narrow, narrow).max())))
        labels, squares = self._table(narrow, doubt) if self._few else self._search(narrow)
        margins: Float32 = squares[1] - squares[0]
        margins -= doubt
        np.maximum(squares, 0, out=squares)
        squares += doubt
        np.sqrt(squares, out=squares)
        margins /= squares[0] + squares[1] + np.float32(1e-30)
        close = np.flatnonzero(margins <= 0)
        if len(close):
            labels[0, close] = self._resolve_ties(rows[close], labels[0, close], labels[1, close])
        return labels[0].astype(np.int32), margins

    def _search(self, rows: Float32) -> tuple[Array, Float32]:
        """Return the two nearest centres and their squared distances, `[2, N]` each, by an index."""
        with self._lock:
            squares, labels = self._index.search(rows, 2)
        return labels.T, np.ascontiguousarray(squares.T)

    def _table(self, rows: Float32, doubt: np.float32) -> tuple[Array, Float32]:
        """Return the same from a table of all distances; the second label is right only where it is within `doubt`."""
        table = faiss.pairwise_distances(self._narrow, rows)
        labels, squares = np.zeros((2, len(rows)), dtype=np.uint8), np.empty((2, len(rows)), dtype=np.float32)
        (best, second), (first_label, second_label) = squares, labels
        best[:], second[:] = table[0], np.inf
        nearer, larger = np.empty(len(rows), dtype=bool), np.empty(len(rows), dtype=np.float32)
        for number in range(1, len(table)):
            row = table[number]
            np.maximum(row, best, out=larger)
            np.minimum(second, larger, out=second)
            np.less(row, best, out=nearer)
            np.copyto(first_label, number, where=nearer)
            np.minimum(best, row, out=best)
        tied = np.flatnonzero(second - best <= doubt)
        others = table[:, tied]
        others[first_label[tied], np.arange(len(tied))] = np.inf
        second_label[tied] = others.argmin(axis=0)
        return labels, squares

    def _resolve_ties(self, rows: Array, one: Array, other: Array) -> Any:
        """Return which of two centres is nearer in float64; the first of equally near ones."""
        low, high = np.minimum(one, other), np.maximum(one, other)
        wide = self._coordinates.float64(rows)
        to_low, to_high = wide - self._centres[low], wide - self._centres[high]
        nearer = np.einsum("ij,ij->i", to_high, to_high) < np.einsum("ij,ij->i", to_low, to_low)
        return np.where(nearer, high, low)
