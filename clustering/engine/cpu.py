"""The rows on the CPU: read block by block, and searched by Faiss, on GPUs if there are any."""

import math
from functools import cached_property, partial

import faiss
import numpy as np
from threadpoolctl import threadpool_limits

from .assignment import CpuAssignment, squared_distances
from .data import Array, Block, Float32, Float64, Labels, Numbers, check_finite, pieces
from .local_search import split_and_merge, swap
from .nearest import Nearest
from .problem import Seeding
from .rows import Rows
from .seeding import plus_plus, random_rows

_CANCELS = 1e-4
"""Below this share of the squared norms, a squared distance is computed from the difference: the product cancels."""


class CpuRows(Rows):
    """Rows that numpy and Faiss process in blocks, on the threads of the problem."""

    def extremes(self) -> tuple[float, float]:
        """Return the smallest and the largest value."""
        blocks = self.problem.workers.map(_extremes, self.problem.source.blocks())
        values = np.array([(np.inf, -np.inf), *blocks])  # a process may have no rows
        return float(values[:, 0].min()), float(values[:, 1].max())

    def take(self, numbers: Numbers) -> Array:
        """Return the rows with the given ascending numbers."""
        return self.problem.source.take(numbers)

    def assignment(self, clusters: int) -> CpuAssignment:
        """Return a new assignment of the rows to `clusters` centres."""
        return CpuAssignment(self.problem, clusters)

    def label(self, centres: Float64) -> Labels:
        """Return the nearest centre of each row."""
        labels = np.empty(self.count, dtype=np.int32)
        nearest = Nearest(centres, self.problem.coordinates, self.problem.gpus)

        def search(block: Block) -> None:
            rows = block.rows()
            check_finite(rows.min(), rows.max())
            labels[block.start : block.stop] = nearest.search(rows)[0]

        for _ in self.problem.workers.map(search, self.problem.source.blocks()):
            pass
        return labels

    def objective(self, centres: Float64, labels: Labels) -> float:
        """Return the weighted sum of squared distances to the labelled centres."""
        squares = partial(squared_distances, self.problem, centres, labels)
        sums = [part.sum() for part in self.problem.workers.map(squares, self.problem.source.blocks())]
        return math.fsum(self.problem.exchange.collect(sums))

    def distances(self, centres: Float64) -> Array:
        """Return the distance of each row to each centre."""
        dtype = self.problem.output.dtype
        result = np.empty((self.count, len(centres)), dtype="float32" if dtype == "bfloat16" else dtype)

        def measure(block: Block) -> None:
            rows = block.rows()
            check_finite(rows.min(), rows.max())
            for piece in pieces(*rows.shape):
                result[block.start : block.stop][piece] = self._distances(rows[piece], centres)

        with threadpool_limits(1, user_api="blas"):  # the bits of numpy's product depend on the number of its threads
            for _ in self.problem.workers.map(measure, self.problem.source.blocks()):
                pass
        return result

    def _distances(self, rows: Array, centres: Float64) -> Float64:
        coordinates = self.problem.coordinates
        wide = coordinates.float64(rows)
        cross: Float64 = wide @ centres.T
        if coordinates.metric == "cosine":
            return 1 - cross
        norms = np.einsum("ij,ij->i", wide, wide)[:, None] + np.einsum("ij,ij->i", centres, centres)
        squares = norms - 2 * cross
        close = squares < _CANCELS * norms
        for cluster in np.flatnonzero(close.any(axis=0)):
            rows_close = np.flatnonzero(close[:, cluster])
            difference = wide[rows_close] - centres[cluster]
            squares[rows_close, cluster] = np.einsum("ij,ij->i", difference, difference)
        return np.sqrt(squares) / coordinates.scale

    def seed(self, init: Seeding, clusters: int, rng: np.random.Generator) -> Float64:
        """Return initial centres."""
        choose = random_rows if init == "random" else plus_plus
        return self.problem.coordinates.float64(self.problem.source.take(choose(self, clusters, rng)))

    def improve(self, centres: Float64, rng: np.random.Generator) -> Float64:
        """Return centres improved by local search."""
        centres, _ = swap(self, centres, rng, 10 * len(centres))
        centres, _ = split_and_merge(self, centres, rng)
        return centres

    @cached_property
    def points(self) -> Float32:
        """All rows in the problem's coordinates."""
        return self.problem.coordinates.float32(self.take(np.arange(self.count)))

    def squares_from(self, numbers: Numbers) -> Float32:
        """Return the squared distances from some rows to all rows, see `seeding.Points`."""
        squares: Float32 = faiss.pairwise_distances(self.points[numbers], self.points)
        return squares

    def search(self, centres: Float32, numbers: Numbers | None = None) -> tuple[Float32, Numbers]:
        """Return the two nearest centres of each row, see `seeding.Points`."""
        index = faiss.IndexFlatL2(self.dim)
        index.add(centres)
        squares, labels = index.search(self.points if numbers is None else self.points[numbers], 2)
        return np.maximum(squares, 0), labels


def _extremes(block: Block) -> tuple[float, float]:
    rows = block.rows()
    return float(rows.min()), float(rows.max())
