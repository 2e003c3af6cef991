"""The nearest centre of each row, and by how much it is nearer than the next: the distance work, done by Faiss.

Fitted centres applied to data.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import faiss
import numpy as np
import numpy.typing as npt

from .coordinates import Float32, Float64, Frame
from .data import BLOCK, Block, Kind, Source, pieces
from .parallel import Gpu, Workers, resources
from .survey import check_finite

Labels = npt.NDArray[np.int32]

_FEW = 16
"""Up to so many centres a table of all distances is faster than a search."""
_ROUNDING = 2.0**-19
"""What float32 may be off in the difference of two squared distances, in units of the squared norms."""


class Found(NamedTuple):
    """The answer for some rows.

    Attributes:
        labels: int32 ``[N]``, the nearest centre; of equally near ones the first.
        margins: float32 ``[N]``, how much farther any other centre is, at least; at most 0 where float32 cannot tell.
    """

    labels: Labels
    margins: Float32


class Nearest:
    """Searches among fixed centres; may be called from several threads.

    Faiss computes in float32, and its last bits depend on how many rows are searched together. Where the two nearest
    centres are so close that this matters, float64 decides, so that a row's label does not depend on its company.

    Args:
        centres: float64 ``[K, D]``, in the frame.
        frame: The coordinates.
        gpus: The GPUs to search on; none for the CPU.
    """

    def __init__(self, centres: Float64, frame: Frame, gpus: Sequence[Gpu] = ()) -> None:
        self._centres, self._frame = centres, frame
        self._narrow: Float32 = np.ascontiguousarray(centres, dtype=np.float32)
        self._norm = float(np.einsum("ij,ij->i", centres, centres).max())
        index = faiss.IndexFlatL2(centres.shape[1])
        index.add(self._narrow)
        self._index, self._gpus = index, gpus
        self._copies = []
        for gpu in gpus:
            with gpu.lock:
                self._copies.append(faiss.index_cpu_to_gpu(gpu.resources, gpu.number, index))

    def search(self, rows: npt.NDArray[Any], place: int = 0) -> Found:
        """The nearest centres of rows given in the data's coordinates.

        Args:
            rows: ``[N, D]`` of any type.
            place: A number that says which of several GPUs is to search.
        """
        if len(self._centres) == 1:
            return Found(np.zeros(len(rows), dtype=np.int32), np.full(len(rows), np.inf, dtype=np.float32))
        narrow = self._frame.narrow(rows)
        few = len(self._centres) <= _FEW and not self._gpus
        # d2 - d1 = (d2^2 - d1^2) / (d2 + d1), of which float32 knows the numerator up to the doubt.
        doubt = np.float32(_ROUNDING * (self._norm + float(np.einsum("ij,ij->i", narrow, narrow).max())))
        labels, squares = self._table(narrow, doubt) if few else self._search(narrow, place)
        margins: Float32 = squares[1] - squares[0]
        margins -= doubt
        np.maximum(squares, 0, out=squares)
        squares += doubt
        np.sqrt(squares, out=squares)
        margins /= squares[0] + squares[1] + np.float32(1e-30)
        near = np.flatnonzero(margins <= 0)
        if len(near):
            labels[0, near] = self._decide(rows[near], labels[0, near], labels[1, near])
        return Found(labels[0].astype(np.int32), margins)

    def _search(self, rows: Float32, place: int) -> tuple[npt.NDArray[np.int64], Float32]:
        """The two nearest centres and their squared distances: ``[2, N]`` each."""
        if self._gpus:
            place %= len(self._gpus)
            with self._gpus[place].lock:  # other threads prepare their blocks meanwhile
                squares, labels = self._copies[place].search(rows, 2)
        else:
            squares, labels = self._index.search(rows, 2)
        return labels.T, np.ascontiguousarray(squares.T)

    def _table(self, rows: Float32, doubt: np.float32) -> tuple[npt.NDArray[Any], Float32]:
        """The same from a table of all distances."""
        table = faiss.pairwise_distances(self._narrow, rows)
        labels, squares = np.zeros((2, len(rows)), dtype=np.uint8), np.empty((2, len(rows)), dtype=np.float32)
        (best, second), (first, next_) = squares, labels
        best[:], second[:] = table[0], np.inf
        nearer, larger = np.empty(len(rows), dtype=bool), np.empty(len(rows), dtype=np.float32)
        for number in range(1, len(table)):
            row = table[number]
            np.maximum(row, best, out=larger)
            np.minimum(second, larger, out=second)
            np.less(row, best, out=nearer)
            np.copyto(first, number, where=nearer)
            np.minimum(best, row, out=best)
        # Who is second matters only where it is as near as the first.
        tied = np.flatnonzero(second - best <= doubt)
        others = table[:, tied]
        others[first[tied], np.arange(len(tied))] = np.inf
        next_[tied] = others.argmin(axis=0)
        return labels, squares

    def _decide(self, rows: npt.NDArray[Any], one: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Which of two centres is nearer in float64; of equally near ones the first."""
        low, high = np.minimum(one, other), np.maximum(one, other)
        wide = self._frame.exact(rows)
        to_low, to_high = wide - self._centres[low], wide - self._centres[high]
        nearer = np.einsum("ij,ij->i", to_high, to_high) < np.einsum("ij,ij->i", to_low, to_low)
        return np.where(nearer, high, low)


def nearest(source: Source, centres: Float64, frame: Frame, gpus: list[int]) -> Labels:
    """The nearest centre of each row: int32 ``[N]``."""
    labels = np.empty(source.count, dtype=np.int32)
    search = Nearest(centres, frame, resources(gpus))

    def label(block: Block) -> None:
        rows = block.rows()
        check_finite(rows.min(), rows.max())
        labels[block.start : block.stop] = search.search(rows, block.start // BLOCK).labels

    with Workers() as workers:
        for _ in workers.map(label, source.blocks()):
            pass
    return labels


def objective(source: Source, labels: Labels, centres: Float64, frame: Frame, weights: Float64 | None) -> float:
    """The weighted sum of squared distances (of ``1 - cosine``), in the data's coordinates."""
    with Workers() as workers:
        parts = workers.map(partial(squared_distances, labels, centres, frame, weights), source.blocks())
        total = math.fsum(float(part.sum()) for part in parts)
    return total / 2 if frame.metric == "cosine" else total / frame.scale**2


def squared_distances(labels: Labels, centres: Float64, frame: Frame, weights: Float64 | None, block: Block) -> Float64:
    """The weighted squared distance of each row of a block to its centre, in the frame, in float64."""
    here = slice(block.start, block.stop)
    distances = np.empty(block.stop - block.start)
    rows = block.rows()
    for piece in pieces(*rows.shape):
        wide = frame.exact(rows[piece])
        wide -= centres[labels[here][piece]]
        distances[piece] = np.einsum("ij,ij->i", wide, wide)
    if weights is not None:
        distances *= weights[here]
    return distances


def distances(source: Source, centres: Float64, frame: Frame, kind: Kind) -> npt.NDArray[Any]:
    """The distance of each row to each centre, ``[N, K]``."""
    result = np.empty((source.count, len(centres)), dtype="float32" if kind.dtype == "bfloat16" else kind.dtype)
    own = np.einsum("ij,ij->i", centres, centres)
    for block in source.blocks():
        rows = block.rows()
        check_finite(rows.min(), rows.max())
        for piece in pieces(*rows.shape):
            wide = frame.exact(rows[piece])
            cross = wide @ centres.T
            if frame.metric == "cosine":
                part = 1 - cross
            else:
                part = np.einsum("ij,ij->i", wide, wide)[:, None] - 2 * cross + own
                part = np.sqrt(np.maximum(part, 0)) / frame.scale
            result[block.start + piece.start : block.start + piece.stop] = part
    return result
