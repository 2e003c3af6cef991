"""The rows on a device: processed by torch in chunks, in place where they are there already."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import Array, Float64, Numbers, check_finite, to_numpy
from ..problem import Problem, Seeding
from ..rows import Rows
from ..seeding import random_rows
from .assignment import GpuAssignment, squared_distances
from .chunks import Chunk, chunks, pieces, resident
from .coordinates import float64, to_device
from .local_search import split_and_merge, swap
from .nearest import Nearest
from .points import Points
from .seeding import plus_plus

_CANCELS = 1e-4
"""Below this share of the squared norms, a squared distance is computed from the difference: the product cancels."""


class GpuRows(Rows):
    """Rows that torch processes on a device."""

    def __init__(self, problem: Problem, device: torch.device) -> None:
        super().__init__(problem)
        self.device = device

    def extremes(self) -> tuple[float, float]:
        """Return the smallest and the largest value."""
        values = [_extremes(chunk) for chunk in chunks(self.problem.source, self.device)]
        if not values:
            return math.inf, -math.inf
        both = torch.stack(values)
        return float(both[:, 0].amin()), float(both[:, 1].amax())

    def take(self, numbers: Numbers) -> Array | Tensor:
        """Return the rows with the given ascending numbers, on the device if the rows are there."""
        here = resident(self.problem.source, self.device)
        return self.problem.source.take(numbers) if here is None else here[torch.from_numpy(numbers).to(self.device)]

    def assignment(self, clusters: int) -> GpuAssignment:
        """Return a new assignment of the rows to `clusters` centres."""
        return GpuAssignment(self.problem, clusters, self.device)

    def label(self, centres: Float64) -> Tensor:
        """Return the nearest centre of each row, on the device."""
        labels = torch.empty(self.count, dtype=torch.int32, device=self.device)
        nearest = Nearest(centres, self.problem.coordinates, self.device, self.problem.precision)
        for chunk in chunks(self.problem.source, self.device):
            _check(chunk)
            labels[chunk.start : chunk.stop] = nearest.search(chunk.rows)[0]
        return labels

    def objective(self, centres: Float64, labels: Any) -> float:
        """Return the weighted sum of squared distances to the labelled centres."""
        weights = None if self.problem.weights is None else to_device(self.problem.weights, self.device)
        sums: list[float] = []
        for chunk in chunks(self.problem.source, self.device):
            mine = torch.as_tensor(labels[chunk.start : chunk.stop], device=self.device).long()
            sums.append(float(squared_distances(self.problem, centres, mine, chunk, weights).sum()))
        parts: list[float] = self.problem.exchange.collect(sums)
        return math.fsum(parts)

    def distances(self, centres: Float64) -> Tensor:
        """Return the distance of each row to each centre, on the device."""
        wide = to_device(centres, self.device)
        kind = getattr(torch, self.problem.output.dtype)
        result = torch.empty(self.count, len(wide), dtype=kind, device=self.device)
        for chunk in chunks(self.problem.source, self.device):
            _check(chunk)
            for cut in pieces(len(chunk.rows), len(wide) + self.dim):
                result[chunk.start : chunk.stop][cut] = self._distances(chunk.rows[cut], wide)
        return result

    def seed(self, init: Seeding, clusters: int, rng: np.random.Generator) -> Float64:
        """Return initial centres."""
        if init == "random":
            return to_numpy(float64(self.problem.coordinates, self._at(random_rows(self, clusters, rng))))
        points = self._points(rng)
        return to_numpy(points.wide[plus_plus(points, clusters)])

    def improve(self, centres: Float64, rng: np.random.Generator) -> Float64:
        """Return centres improved by local search."""
        points = self._points(rng)
        found = to_device(centres, self.device).float()
        found, _ = swap(points, found, 10 * len(centres))
        found, _ = split_and_merge(points, found)
        return to_numpy(found.double())

    def _points(self, rng: np.random.Generator) -> Points:
        rows = torch.cat([chunk.rows for chunk in chunks(self.problem.source, self.device)])
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**63 - 1)))
        weights = None if self.problem.weights is None else to_device(self.problem.weights, self.device)
        return Points(float64(self.problem.coordinates, rows), weights, generator)

    def _at(self, numbers: Numbers) -> Tensor:
        taken = self.take(numbers)
        return taken if isinstance(taken, Tensor) else to_device(taken, self.device)

    def _distances(self, rows: Tensor, centres: Tensor) -> Tensor:
        coordinates = self.problem.coordinates
        wide = float64(coordinates, rows)
        cross = wide @ centres.T
        if coordinates.metric == "cosine":
            return 1 - cross
        norms = wide.square().sum(dim=1)[:, None] + centres.square().sum(dim=1)
        squares = norms - 2 * cross
        row, centre = (squares < _CANCELS * norms).nonzero().unbind(1)
        for cut in pieces(len(row), self.dim):
            difference = wide[row[cut]] - centres[centre[cut]]
            squares[row[cut], centre[cut]] = difference.square().sum(dim=1)
        return squares.sqrt() / coordinates.scale


def _check(chunk: Chunk) -> None:
    check_finite(*_extremes(chunk).tolist())


def _extremes(chunk: Chunk) -> Tensor:
    rows = chunk.rows.byte() if chunk.rows.dtype == torch.bool else chunk.rows
    return torch.stack(rows.aminmax()).double()
