"""Labels and cluster sums on the CPU, updated from pass to pass.

Each pass revisits only rows whose nearest centre may have changed: a row keeps its margin, by how much its centre was
nearer than any other, and is skipped as long as the centres have moved less than that together (triangle inequality).
Only rows that change their cluster are added to one sum and subtracted from another.

Reference: Hamerly, "Making k-means even faster" (SDM 2010); of its two bounds only the difference is kept here, block
by block.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .data import BLOCK, Array, Block, Float32, Float64, Labels, Numbers, pieces
from .nearest import Nearest
from .problem import Problem
from .rows import Assignment, FarRow
from .sums import add_by_cluster, grid_for, snap

_MARGIN_LIMIT = 1 << 27
"""Above this many rows no margins are kept: they would take as much memory as the labels."""


class _Change(NamedTuple):
    """The contribution of one block: to the sums and counts of some clusters and, in the first pass, to `squares`."""

    searched: int
    clusters: Numbers
    sums: Float64
    counts: Float64
    squares: float


class CpuAssignment(Assignment):
    """Rows assigned to centres by Faiss, block by block on several threads.

    Attributes:
        searched: Number of rows of this process whose distances the last pass computed.
    """

    def __init__(self, problem: Problem, clusters: int) -> None:
        super().__init__(clusters, problem.source.dim)
        self.problem, rows = problem, problem.source.count
        self.labels: Labels = np.full(rows, -1, dtype=np.int32)
        self.searched = 0
        self._margins = np.empty(rows if rows <= _MARGIN_LIMIT else 0, dtype=np.float32)
        self._margins_valid = False
        # Twice the bound: a difference of two sums may be that large on the way.
        self._grid = grid_for(2 * max(problem.total, 1e-300) * max(problem.bound, 1e-300))
        self._count_grid = grid_for(2 * problem.total)

    def reset(self) -> None:
        """Discard everything."""
        self.labels.fill(-1)
        self.sums.fill(0)
        self.counts.fill(0)
        self._margins_valid, self.squares = False, None

    def assign(self, centres: Float64) -> float:
        """Assign each row to the nearest of the centres."""
        slack = self._slack(centres) if self._margins_valid else None
        self._margins_valid = False
        nearest = Nearest(centres, self.problem.coordinates, self.problem.gpus)
        sums, counts = np.zeros_like(self.sums), np.zeros_like(self.counts)
        squares: list[Any] = []
        self.searched = 0
        work = partial(self._assign_block, nearest, slack, self.squares is None)
        for change in self.problem.workers.map(work, self.problem.source.blocks()):
            if change is not None:
                sums[change.clusters] += change.sums
                counts[change.clusters] += change.counts
                squares.append(change.squares)
                self.searched += change.searched
        exchange = self.problem.exchange
        self.sums += exchange.add(sums)
        self.counts += exchange.add(counts)
        if self.squares is None:
            self.squares = float(math.fsum(exchange.collect(squares)))
        self.centres, self._margins_valid = centres, len(self._margins) == len(self.labels)
        return self.objective

    def farthest(self, count: int) -> list[FarRow]:
        """Return the `count` rows farthest from their centres."""
        source, exchange = self.problem.source, self.problem.exchange
        best: list[tuple[float, int]] = []
        work = partial(squared_distances, self.problem, self.centres, self.labels)
        for index, squares in enumerate(self.problem.workers.map(work, source.blocks())):
            largest = np.argsort(-squares, kind="stable")[:count]
            best += [(-float(squares[i]), index * BLOCK + int(i)) for i in largest if squares[i] > 0]
            best = sorted(best)[:count]
        numbers = np.array(sorted(number for _, number in best), dtype=np.int64)
        rows = self.problem.coordinates.float64(source.take(numbers)) if len(numbers) else np.zeros((0, 0))
        row_of = dict(zip(numbers.tolist(), rows, strict=True))
        first = exchange.first_row(source.count)
        own = [FarRow(-negative, first + number, row_of[number]) for negative, number in best]
        return sorted(exchange.collect(own), key=lambda far: (-far.square, far.number))[:count]

    def reassign(self, far: FarRow, cluster: int) -> None:
        """Move a row from its cluster to an empty one."""
        exchange, weights = self.problem.exchange, self.problem.weights
        place = far.number - exchange.first_row(self.problem.source.count)
        own = 0 <= place < self.problem.source.count
        weight = 1.0 if weights is None or not own else float(weights[place])
        ((old, weight),) = exchange.collect([(int(self.labels[place]), weight)] if own else [])
        moved = snap(weight * far.row, self._grid)
        self.sums[old] -= moved
        self.sums[cluster] += moved
        rounded = float(snap(np.array([weight]), self._count_grid)[0])
        self.counts[old] -= rounded
        self.counts[cluster] += rounded
        if own:
            self.labels[place] = cluster
            if len(self._margins):
                self._margins[place] = -np.inf

    def _slack(self, centres: Float64) -> Float32:
        """Return how much nearer any other centre may have come to the rows of each cluster than their own."""
        difference = centres - self.centres
        moved = np.sqrt(np.einsum("ij,ij->i", difference, difference))
        others = np.full(len(moved), moved.max())
        if len(moved) > 1:
            others[moved.argmax()] = np.partition(moved, -2)[-2]
        return ((moved + others) * (1 + 1e-6)).astype(np.float32)

    def _assign_block(self, nearest: Nearest, slack: Float32 | None, first: bool, block: Block) -> _Change | None:
        """Search one block, write its labels and margins and return its contribution, None if no row was searched."""
        inside = slice(block.start, block.stop)
        labels = self.labels[inside]
        which: Numbers | None = None
        if slack is not None:
            left = self._margins[inside]
            left -= slack[labels]
            which = np.flatnonzero(left <= 0)
            if not len(which):
                return None
            which = None if len(which) == len(labels) else which
        rows = block.rows(which)
        place = slice(None) if which is None else which
        new, margins = nearest.search(rows)
        if len(self._margins):
            self._margins[inside][place] = margins
        old = labels[place]
        changed = np.flatnonzero(new != old)
        weights = self.problem.weights
        part = np.ones(len(changed)) if weights is None else weights[inside][place][changed]
        change = self._change(rows, changed, old[changed], new[changed], part, first)
        labels[place] = new
        return change

    def _change(
        self, rows: Array, changed: Numbers, old: Labels, new: Labels, weights: Float64, first: bool
    ) -> _Change:
        """Return what the changed rows add to the sums and counts of their old and new clusters."""
        touched = np.zeros(len(self.counts) + 1, dtype=bool)
        touched[new] = True
        touched[old] = True  # -1, the label of a row that had no cluster, is the last position
        touched[-1] = False
        clusters = np.flatnonzero(touched)
        position = np.cumsum(touched) - 1
        sums, squares = np.zeros((len(clusters), rows.shape[1])), []
        for piece in pieces(len(changed), rows.shape[1]):
            wide = self.problem.coordinates.float64(rows[piece if len(changed) == len(rows) else changed[piece]])
            add_by_cluster(sums, position[new[piece]], wide, weights[piece])
            leaving = np.flatnonzero(old[piece] >= 0)
            if len(leaving):
                add_by_cluster(sums, position[old[piece][leaving]], wide[leaving], -weights[piece][leaving])
            if first:
                squares.append(float((np.einsum("ij,ij->i", wide, wide) * weights[piece]).sum()))
        counts = np.bincount(new, weights, len(self.counts)).astype(np.float64)
        had = old >= 0
        counts -= np.bincount(old[had], weights[had], len(self.counts))
        sums, counts = snap(sums, self._grid), snap(counts[clusters], self._count_grid)
        return _Change(len(rows), clusters, sums, counts, math.fsum(squares))


def squared_distances(problem: Problem, centres: Float64, labels: Labels, block: Block) -> Float64:
    """Return the weighted squared distance of each row of a block to its centre, in float64."""
    inside = slice(block.start, block.stop)
    squares = np.empty(block.stop - block.start)
    rows = block.rows()
    for piece in pieces(*rows.shape):
        wide = problem.coordinates.float64(rows[piece])
        wide -= centres[labels[inside][piece]]
        squares[piece] = np.einsum("ij,ij->i", wide, wide)
    if problem.weights is not None:
        squares *= problem.weights[inside]
    return squares
