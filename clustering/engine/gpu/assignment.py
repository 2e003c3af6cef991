"""Labels and cluster sums on a device, updated from pass to pass as on the CPU (see `engine.assignment`)."""

import numpy as np
import torch
from torch import Tensor

from ..data import Float64, to_numpy
from ..problem import Problem
from ..rows import Assignment, FarRow
from .chunks import Chunk, chunks, pieces
from .coordinates import float64, to_device
from .nearest import Nearest
from .sums import add_steps, step_for

_SEARCH_ALL = 0.5
"""Above this share of rows whose nearest centre may have changed, all of a chunk are searched, in place."""


class GpuAssignment(Assignment):
    """Rows assigned to centres on a device.

    Attributes:
        labels: int32 `[N]`, on the device.
        searched: Number of rows of this process whose distances the last pass computed.
    """

    labels: Tensor

    def __init__(self, problem: Problem, clusters: int, device: torch.device) -> None:
        super().__init__(clusters, problem.source.dim)
        self.problem, self.device, rows = problem, device, problem.source.count
        self.labels = torch.full((rows,), -1, dtype=torch.int32, device=device)
        self.searched = 0
        self._margins = torch.empty(rows, dtype=torch.float32, device=device)
        self._margins_valid = False
        self._weights = None if problem.weights is None else to_device(problem.weights, device)
        self._step = step_for(max(problem.total, 1e-300) * max(problem.bound, 1e-300))
        self._square_step = step_for(problem.total * self.sums.shape[1] * problem.bound**2)
        self._count_step = 1.0 if problem.weights is None else step_for(problem.total)
        self._sums = np.zeros((clusters, problem.source.dim), dtype=np.int64)  # in steps, over all processes
        self._counts = np.zeros(clusters, dtype=np.int64)

    def reset(self) -> None:
        """Discard everything."""
        self.labels.fill_(-1)
        self._sums.fill(0)
        self._counts.fill(0)
        self._margins_valid, self.squares = False, None
        self._update()

    def assign(self, centres: Float64) -> float:
        """Assign each row to the nearest of the centres."""
        slack = self._slack(centres) if self._margins_valid else None
        self._margins_valid = False
        nearest = Nearest(centres, self.problem.coordinates, self.device, self.problem.precision)
        sums = torch.zeros(self._sums.shape, dtype=torch.int64, device=self.device)
        counts = torch.zeros(len(sums), dtype=torch.int64, device=self.device)
        squares = torch.zeros((), dtype=torch.int64, device=self.device)
        self.searched = 0
        for chunk in chunks(self.problem.source, self.device):
            changed, old, new = self._label(nearest, slack, chunk)
            for cut in pieces(len(changed), chunk.rows.shape[1]):
                self._add(sums, counts, chunk, changed[cut], old[cut], new[cut])
            if self.squares is None:
                squares += self._squares(chunk)
        exchange = self.problem.exchange
        self._sums += exchange.add(to_numpy(sums))
        self._counts += exchange.add(to_numpy(counts))
        if self.squares is None:
            self.squares = float(exchange.add(to_numpy(squares))) * self._square_step
        self._update()
        self.centres, self._margins_valid = centres, True
        return self.objective

    def farthest(self, count: int) -> list[FarRow]:
        """Return the `count` rows farthest from their centres."""
        source, exchange = self.problem.source, self.problem.exchange
        first = exchange.first_row(source.count)
        own: list[FarRow] = []
        for chunk in chunks(source, self.device):
            labels = self.labels[chunk.start : chunk.stop].long()
            squares = squared_distances(self.problem, self.centres, labels, chunk, self._weights)
            squares, order = squares.sort(descending=True, stable=True)
            order = order[:count]
            rows = float64(self.problem.coordinates, chunk.rows[order])
            for square, place, row in zip(squares[:count].tolist(), order.tolist(), to_numpy(rows), strict=True):
                if square > 0:
                    own.append(FarRow(square, first + chunk.start + place, row))
            own = sorted(own, key=lambda far: (-far.square, far.number))[:count]
        return sorted(exchange.collect(own), key=lambda far: (-far.square, far.number))[:count]

    def reassign(self, far: FarRow, cluster: int) -> None:
        """Move a row from its cluster to an empty one."""
        exchange, weights = self.problem.exchange, self.problem.weights
        place = far.number - exchange.first_row(self.problem.source.count)
        own = 0 <= place < self.problem.source.count
        weight = 1.0 if weights is None or not own else float(weights[place])
        ((old, weight),) = exchange.collect([(int(self.labels[place]), weight)] if own else [])
        moved = np.rint(weight * far.row / self._step).astype(np.int64)
        self._sums[old] -= moved
        self._sums[cluster] += moved
        steps = round(weight / self._count_step)
        self._counts[old] -= steps
        self._counts[cluster] += steps
        self._update()
        if own:
            self.labels[place], self._margins[place] = cluster, -torch.inf

    def _update(self) -> None:
        """Set the sums and counts from their steps."""
        self.sums, self.counts = self._sums * np.float64(self._step), self._counts * np.float64(self._count_step)

    def _slack(self, centres: Float64) -> Tensor:
        """Return how much nearer any other centre may have come to the rows of each cluster than their own."""
        difference = centres - self.centres
        moved = np.sqrt(np.einsum("ij,ij->i", difference, difference))
        others = np.full(len(moved), moved.max())
        if len(moved) > 1:
            others[moved.argmax()] = np.partition(moved, -2)[-2]
        return to_device((moved + others) * (1 + 1e-6), self.device).float()

    def _label(self, nearest: Nearest, slack: Tensor | None, chunk: Chunk) -> tuple[Tensor, Tensor, Tensor]:
        """Search a chunk, write labels and margins; return which rows changed, their old and their new labels."""
        inside = slice(chunk.start, chunk.stop)
        labels, margins = self.labels[inside], self._margins[inside]
        which: Tensor | None = None
        if slack is not None:
            margins -= slack[labels.long()]
            which = (margins > 0).logical_not_().nonzero().squeeze(1)
            if len(which) > _SEARCH_ALL * len(labels):
                which = None
        rows = chunk.rows if which is None else chunk.rows[which]
        self.searched += len(rows)
        if not len(rows):
            return labels[:0].long(), labels[:0].long(), labels[:0].long()
        new, bounds = nearest.search(rows)
        place = slice(None) if which is None else which
        old = labels[place].clone()
        labels[place], margins[place] = new, bounds
        changed = (new != old).nonzero().squeeze(1)
        old, new = old[changed].long(), new[changed].long()
        return (changed if which is None else which[changed]), old, new

    def _add(self, sums: Tensor, counts: Tensor, chunk: Chunk, changed: Tensor, old: Tensor, new: Tensor) -> None:
        """Add changed rows to the sums and counts of their new clusters and subtract them from the old ones."""
        wide = float64(self.problem.coordinates, chunk.rows[changed])
        weights = wide.new_ones(len(wide))
        if self._weights is not None:
            weights = self._weights[chunk.start + changed]
            wide = wide * weights[:, None]
        had = (old >= 0).nonzero().squeeze(1)
        for labels, values, part in ((new, wide, weights), (old[had], -wide[had], -weights[had])):
            add_steps(sums, labels, values, self._step)
            add_steps(counts, labels, part, self._count_step)

    def _squares(self, chunk: Chunk) -> Tensor:
        """Return the weighted sum of the squared norms of the rows, in steps."""
        steps = torch.zeros((), dtype=torch.int64, device=self.device)
        for cut in pieces(*chunk.rows.shape):
            squares = float64(self.problem.coordinates, chunk.rows[cut]).square().sum(dim=1)
            if self._weights is not None:
                squares *= self._weights[chunk.start : chunk.stop][cut]
            steps += squares.div(self._square_step).round_().long().sum()
        return steps


def squared_distances(
    problem: Problem, centres: Float64, labels: Tensor, chunk: Chunk, weights: Tensor | None
) -> Tensor:
    """Return the weighted squared distance of each row of a chunk to its centre, in float64."""
    wide, squares = to_device(centres, chunk.rows.device), []
    for cut in pieces(*chunk.rows.shape):
        difference = float64(problem.coordinates, chunk.rows[cut]) - wide[labels[cut]]
        squares.append(difference.square().sum(dim=1))
    result = torch.cat(squares) if squares else wide.new_zeros(0)
    return result if weights is None else result * weights[chunk.start : chunk.stop]
