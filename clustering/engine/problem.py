"""One clustering task: the `Problem` (data and everything a pass over them needs) and the `Options` of its fit.

Both are passed whole. `Result` is what a fit returns.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .coordinates import Coordinates, Metric
from .data import Array, ArraySource, Float64, Labels, OutputType, Source
from .parallel import Exchange, Gpus, Workers

Seeding = Literal["k-means++", "random"]
Precision = Literal["exact", "tf32"]
Report = Callable[..., None]
"""Progress callback: receives a text and, after a pass over the data, the objective."""


class Options(NamedTuple):
    """The checked parameters of a fit, see `clustering.KMeans`; without `device` and `gpus` the CPU searches."""

    clusters: int
    init: Seeding | Float64 = "k-means++"
    starts: int = 5
    max_iter: int = 100
    tol: float = 1e-4
    metric: Metric = "euclidean"
    algorithm: Literal["lloyd", "minibatch"] = "lloyd"
    device: torch.device | None = None
    gpus: tuple[int, ...] = ()
    precision: Precision = "exact"
    seed: int = 0
    verbose: bool = False


class Result(NamedTuple):
    """The outcome of a fit."""

    centres: Float64  # [K, D], numbers of the output type, in the coordinates of the data
    coordinates: Coordinates  # in which the labels were computed
    labels: Labels | Tensor  # [N], a tensor on the device that found them
    objective: float  # weighted sum over all data of the squared distances (of 1 - cosine)
    passes: int  # number of passes over all data


@dataclass(frozen=True)
class Problem:
    """Rows, and everything a pass over them needs."""

    source: Source  # the rows of this process
    output: OutputType
    weights: Float64 | None = None  # [N], of these rows; None if each counts once
    coordinates: Coordinates = field(default_factory=Coordinates)  # of all centres and distances in the engine
    bound: float = 0.0  # on the absolute values in these coordinates, over all processes
    total: float = 0.0  # sum of the weights, over all processes
    workers: Workers = field(default_factory=Workers)
    device: torch.device | None = None  # on which torch processes the rows; None for Faiss
    gpus: Gpus | None = None  # on which Faiss searches; None for the CPU
    precision: Precision = "exact"
    exchange: Exchange = field(default_factory=Exchange)  # with the other processes

    def with_rows(self, rows: Array | Tensor, weights: Float64 | None, **changes: Any) -> "Problem":
        """Return the problem of other rows of the same data, all of them in this process."""
        total = float(len(rows)) if weights is None else float(weights.sum())
        changes = {"source": ArraySource(rows), "weights": weights, "total": total, "exchange": Exchange()} | changes
        return replace(self, **changes)

    def representable(self, centres: Float64, fallback: Float64 | None = None) -> Float64:
        """Round centres `[K, D]` to numbers of the output type; normalise them first for the cosine.

        Centres without a direction are replaced by those of `fallback`, by default by the first axis.
        """
        if self.coordinates.metric == "cosine":
            norms = np.sqrt(np.einsum("ij,ij->i", centres, centres))[:, None]
            axis: Any = np.eye(1, centres.shape[1]) if fallback is None else fallback
            centres = np.where(norms > 1e-12, centres / np.where(norms > 1e-12, norms, 1), axis)
        return self.coordinates.float64(self.output.round(self.coordinates.restore(centres)))
