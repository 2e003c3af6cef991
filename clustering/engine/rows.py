"""The interface to the rows: everything that the engine needs from `[N, D]` data.

Everything else in the engine handles centres `[K, D]`, sums, counts and labels only. `cpu.CpuRows` with
`assignment.CpuAssignment` implements the interface by Faiss and numpy, `gpu.rows.GpuRows` by torch; `device.open_rows`
chooses. They agree on labels: the nearest centre in float64, the first of equally near ones.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from .data import Array, Float64, Labels, Numbers
from .problem import Problem, Seeding

_DOUBTFUL = 1e-6
"""Below this share of the sum of squares, an objective computed as a difference of sums lacks digits."""


class FarRow(NamedTuple):
    """A row's weighted squared distance to its centre, its number over all processes, and the row `[D]` itself."""

    square: float
    number: int
    row: Float64


class Rows(ABC):
    """The rows of a problem.

    Args:
        problem: The rows and their coordinates, in which all centres are given.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    @property
    def count(self) -> int:
        """Number of rows of this process."""
        return self.problem.source.count

    @property
    def dim(self) -> int:
        """Number of columns."""
        return self.problem.source.dim

    @abstractmethod
    def extremes(self) -> tuple[float, float]:
        """Return the smallest and the largest value; NaN if there is one, `(inf, -inf)` without rows."""

    @abstractmethod
    def take(self, numbers: Numbers) -> Array | Tensor:
        """Return the rows with the given ascending numbers, in the coordinates and the type of the data."""

    @abstractmethod
    def assignment(self, clusters: int) -> "Assignment":
        """Return a new assignment of the rows to `clusters` centres."""

    @abstractmethod
    def label(self, centres: Float64) -> Labels | Tensor:
        """Return the nearest of the centres `[K, D]` for each row, which must be finite: int32 `[N]`."""

    @abstractmethod
    def objective(self, centres: Float64, labels: Any) -> float:
        """Return the weighted sum of squared distances to the labelled centres, over all processes, row by row."""

    @abstractmethod
    def distances(self, centres: Float64) -> Array | Tensor:
        """Return the distance (`1 - cosine` for the cosine) to each centre, in the data's scale: `[N, K]`."""

    @abstractmethod
    def seed(self, init: Seeding, clusters: int, rng: np.random.Generator) -> Float64:
        """Return `clusters` of the rows, which must be a sample, as initial centres `[K, D]`."""

    @abstractmethod
    def improve(self, centres: Float64, rng: np.random.Generator) -> Float64:
        """Return centres `[K, D]` improved by local search; the rows must be a sample."""


class Assignment(ABC):
    """Rows assigned to `K` centres of `D` columns, kept from one pass over the data to the next."""

    labels: Any  # [N], of the rows of this process: an array, or a tensor on its device

    def __init__(self, clusters: int, dim: int) -> None:
        self.centres: Float64 = np.zeros((clusters, dim))  # of the last pass
        self.sums: Float64 = np.zeros((clusters, dim))  # of the weighted rows of each cluster, over all processes
        self.counts: Float64 = np.zeros(clusters)  # the sum of their weights
        self.squares: float | None = None  # weighted sum of the squared norms of all rows, after the first pass

    @abstractmethod
    def assign(self, centres: Float64) -> float:
        """Assign each row to the nearest of the centres `[K, D]`, update all attributes and return the objective."""

    @abstractmethod
    def reset(self) -> None:
        """Discard everything: the next pass computes it from scratch."""

    @abstractmethod
    def farthest(self, count: int) -> list[FarRow]:
        """Return the `count` rows farthest from their centres, over all processes; of equally far ones the first.

        Rows at distance 0 are left out.
        """

    @abstractmethod
    def reassign(self, far: FarRow, cluster: int) -> None:
        """Move a row from its cluster to an empty one."""

    @property
    def objective(self) -> float:
        """Weighted sum of squared distances to the centres: `sum w x^2 - 2 sum s c + sum n c^2`."""
        return max(0.0, (self.squares or 0.0) + self.relative_objective(self.centres))

    def relative_objective(self, centres: Float64) -> float:
        """Return the objective of the current labels with other centres, less a constant."""
        cross = np.einsum("ij,ij->", self.sums, centres)
        return float((np.einsum("ij,ij->i", centres, centres) * self.counts).sum() - 2 * cross)

    @property
    def doubtful(self) -> bool:
        """Whether `objective` has lost too many digits."""
        return self.objective <= _DOUBTFUL * (self.squares or 0.0)
