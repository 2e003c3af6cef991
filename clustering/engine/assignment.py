"""Which centre each row belongs to, and the clusters' sums, kept up to date from pass to pass over the data.

A pass costs what changed. Each row keeps its margin: by how much its centre was nearer than any other. As long as the
centres have moved less than that together (the triangle inequality), the row is not looked at again. Of the others only
those that changed sides are added to one sum and taken from another. Reference: Hamerly, "Making k-means even faster"
(SDM 2010), of whose two bounds only the difference is kept here, block by block.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .coordinates import Float64, Frame, add_up, grid_for, snap
from .data import BLOCK, Block, Source, pieces
from .nearest import Labels, Nearest, squared_distances
from .parallel import Exchange, Gpu, Workers

_DOUBTFUL = 1e-6
"""The objective as a difference of sums has lost too many digits below this share of the sum of squares."""
_MARGIN_LIMIT = 1 << 27
"""More rows than this keep no margins: beside the labels they would take too much memory."""


class Ground(NamedTuple):
    """What every pass over some data needs, whatever the centres.

    Attributes:
        source: The data.
        weights: float64 ``[N]``, or None where each row counts once.
        frame: The coordinates.
        reach: No coordinate in the frame is larger in absolute value, on any process.
        total: The sum of the weights, on all processes.
        workers: Who does the blocks.
        gpus: Where Faiss searches; on the CPU where there are none.
        exchange: The other processes.
    """

    source: Source
    weights: Float64 | None
    frame: Frame
    reach: float
    total: float
    workers: Workers
    gpus: tuple[Gpu, ...] = ()
    exchange: Exchange = Exchange()


class _Change(NamedTuple):
    """What one block adds to the sums: of the clusters ``which``, of the objective's constant part."""

    which: npt.NDArray[np.int64]
    sums: Float64
    counts: Float64
    squares: float
    searched: int


class Assignment:
    """Labels, sums and counts of the clusters for the centres of the last pass.

    Attributes:
        labels: int32 ``[N]`` of this process's rows.
        sums: float64 ``[K, D]``, the weighted sum of each cluster's rows, on all processes.
        counts: float64 ``[K]``, the sum of their weights.
        centres: float64 ``[K, D]``, in the frame.
        searched: Rows of this process for which the last pass computed distances.
    """

    def __init__(self, ground: Ground, clusters: int, columns: int) -> None:
        self.ground = ground
        rows = ground.source.count
        self.labels: Labels = np.full(rows, -1, dtype=np.int32)
        self._margins = np.empty(rows if rows <= _MARGIN_LIMIT else 0, dtype=np.float32)
        self.sums, self.counts = np.zeros((clusters, columns)), np.zeros(clusters)
        self.centres: Float64 = np.zeros((clusters, columns))
        self.searched = 0
        self._squares: float | None = None
        self._margins_hold = False
        # Twice the bound: a difference of two sums may be that large on the way.
        self._grid = grid_for(2 * max(ground.total, 1e-300) * max(ground.reach, 1e-300))
        self._count_grid = grid_for(2 * ground.total)

    def forget(self) -> None:
        """Begin anew: the next pass looks at every row and adds everything up."""
        self.labels.fill(-1)
        self.sums.fill(0)
        self.counts.fill(0)
        self._margins_hold, self._squares = False, None

    def move(self, centres: Float64) -> float:
        """Give each row to the nearest of ``centres`` (float64 ``[K, D]``, in the frame); the new objective."""
        slack = self._slack(centres) if self._margins_hold else None
        self._margins_hold = False
        nearest = Nearest(centres, self.ground.frame, self.ground.gpus)
        change_sums, change_counts = np.zeros_like(self.sums), np.zeros_like(self.counts)
        squares: list[Any] = []
        self.searched = 0
        work = partial(self._block, nearest, slack, self._squares is None)
        for change in self.ground.workers.map(work, self.ground.source.blocks()):
            if change is None:
                continue
            change_sums[change.which] += change.sums
            change_counts[change.which] += change.counts
            squares.append(change.squares)
            self.searched += change.searched
        exchange = self.ground.exchange
        self.sums += exchange.add(change_sums)
        self.counts += exchange.add(change_counts)
        if self._squares is None:
            self._squares = float(math.fsum(exchange.collect(squares)))
        self.centres, self._margins_hold = centres, len(self._margins) == len(self.labels)
        return self.objective

    @property
    def objective(self) -> float:
        """The weighted sum of squared distances to the centres, in the frame: ``sum x^2 - 2 sum s c + sum n c^2``."""
        return max(0.0, (self._squares or 0.0) + self.relative_objective(self.centres))

    def relative_objective(self, centres: Float64) -> float:
        """The objective of these labels with other centres, less a constant."""
        cross = np.einsum("ij,ij->", self.sums, centres)
        return float((np.einsum("ij,ij->i", centres, centres) * self.counts).sum() - 2 * cross)

    @property
    def doubtful(self) -> bool:
        """Whether :attr:`objective` has lost too many digits."""
        return self.objective <= _DOUBTFUL * (self._squares or 0.0)

    def summed_objective(self) -> float:
        """The objective added up from the distance of each row."""
        parts = self.ground.workers.map(self._distances, self.ground.source.blocks())
        return math.fsum(self.ground.exchange.collect([part.sum() for part in parts]))

    def farthest(self, count: int) -> list[tuple[float, int, npt.NDArray[np.float64]]]:
        """The ``count`` rows farthest from their centres, on all processes: distance, number, row in the frame.

        Of equally far rows the first comes first.
        """
        first = self.ground.exchange.first_row(self.ground.source.count)
        best: list[tuple[float, int]] = []
        blocks = self.ground.source.blocks()
        for start, distances in enumerate(self.ground.workers.map(self._distances, blocks)):
            largest = np.argsort(-distances, kind="stable")[:count]
            best += [(-float(distances[i]), start * BLOCK + int(i)) for i in largest if distances[i] > 0]
            best = sorted(best)[:count]
        numbers = np.array(sorted(number for _, number in best), dtype=np.int64)
        rows = self.ground.frame.exact(self.ground.source.take(numbers)) if len(numbers) else np.zeros((0, 0))
        place = {int(number): i for i, number in enumerate(numbers)}
        own = [(distance, first + number, rows[place[number]]) for distance, number in best]
        found = sorted(self.ground.exchange.collect(own), key=lambda item: item[:2])
        return [(-distance, number, row) for distance, number, row in found[:count]]

    def give(self, number: int, row: Float64, cluster: int) -> None:
        """Take row ``number`` (of all processes') from its cluster and give it to the empty ``cluster``."""
        exchange = self.ground.exchange
        place = number - exchange.first_row(self.ground.source.count)
        mine = 0 <= place < self.ground.source.count
        weight = 1.0 if self.ground.weights is None or not mine else float(self.ground.weights[place])
        ((old, weight),) = exchange.collect([(int(self.labels[place]), weight)] if mine else [])
        moved = snap(weight * row, self._grid)
        self.sums[old] -= moved
        self.sums[cluster] += moved
        rounded = float(snap(np.array([weight]), self._count_grid)[0])
        self.counts[old] -= rounded
        self.counts[cluster] += rounded
        if mine:
            self.labels[place] = cluster
            if len(self._margins):
                self._margins[place] = -np.inf

    def _slack(self, centres: Float64) -> npt.NDArray[np.float32]:
        """How much nearer any other centre may have come to the rows of each cluster than their own."""
        difference = centres - self.centres
        moved = np.sqrt(np.einsum("ij,ij->i", difference, difference))
        others = np.full(len(moved), moved.max())
        if len(moved) > 1:
            others[moved.argmax()] = np.partition(moved, -2)[-2]
        return ((moved + others) * (1 + 1e-6)).astype(np.float32)

    def _block(
        self, nearest: Nearest, slack: npt.NDArray[np.float32] | None, first: bool, block: Block
    ) -> _Change | None:
        """Search one block, write its labels and margins, and find what changes in the sums."""
        here = slice(block.start, block.stop)
        labels = self.labels[here]
        which: npt.NDArray[np.int64] | None = None
        if slack is not None:
            left = self._margins[here]
            left -= slack[labels]
            which = np.flatnonzero(left <= 0)
            if not len(which):
                return None
            which = None if len(which) == len(labels) else which
        rows = block.rows(which)
        place = slice(None) if which is None else which
        found, margins = nearest.search(rows, block.start // BLOCK)
        if len(self._margins):
            self._margins[here][place] = margins
        old = labels[place]
        changed = np.flatnonzero(found != old)
        weights = self.ground.weights
        part = None if weights is None else weights[here][place][changed]
        result = self._change(rows, changed, old[changed], found[changed], part, first)
        labels[place] = found
        return result._replace(searched=len(rows))

    def _change(
        self,
        rows: npt.NDArray[Any],
        changed: npt.NDArray[np.int64],
        old: Labels,
        new: Labels,
        weights: Float64 | None,
        first: bool,
    ) -> _Change:
        touched = np.zeros(len(self.counts) + 1, dtype=bool)
        touched[new] = True
        touched[old] = True  # -1, the label of a row that was in no cluster, is the last place
        touched[-1] = False
        which = np.flatnonzero(touched)
        position = np.cumsum(touched) - 1
        sums, squares = np.zeros((len(which), rows.shape[1])), []
        mass = np.ones(len(changed)) if weights is None else weights
        everything = len(changed) == len(rows)
        for piece in pieces(len(changed), rows.shape[1]):
            wide = self.ground.frame.exact(rows[piece] if everything else rows[changed[piece]])
            add_up(sums, position[new[piece]], wide, mass[piece])
            held = np.flatnonzero(old[piece] >= 0)
            if len(held):
                add_up(sums, position[old[piece][held]], wide[held], -mass[piece][held])
            if first:
                squares.append(float((np.einsum("ij,ij->i", wide, wide) * mass[piece]).sum()))
        counts = np.bincount(new, mass, len(self.counts)).astype(np.float64)
        had = old >= 0
        counts -= np.bincount(old[had], mass[had], len(self.counts))
        return _Change(which, snap(sums, self._grid), snap(counts[which], self._count_grid), math.fsum(squares), 0)

    def _distances(self, block: Block) -> Float64:
        return squared_distances(self.labels, self.centres, self.ground.frame, self.ground.weights, block)
