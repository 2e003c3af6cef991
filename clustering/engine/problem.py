"""One clustering task: the `Problem` (data and everything a pass over them needs) and the `Options` of its fit.

Both are passed whole. `Result` is what a fit returns.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from .coordinates import Coordinates, Metric
from .data import Array, ArraySource, Float64, Labels, OutputType, Source
from .parallel import Exchange, Gpus, Workers

Seeding = Literal["k-means++", "random"]
Report = Callable[..., None]
"""Progress callback: receives a text and, after a pass over the data, the objective."""


class Options(NamedTuple):
    """The checked parameters of a fit, see `clustering.KMeans`; without `gpus` the CPU searches."""

    clusters: int
    init: Seeding | Float64 = "k-means++"
    starts: int = 5
    max_iter: int = 100
    tol: float = 1e-4
    metric: Metric = "euclidean"
    algorithm: Literal["lloyd", "minibatch"] = "lloyd"
    gpus: tuple[int, ...] = ()
    seed: int = 0
    verbose: bool = False


class Result(NamedTuple):
    """The outcome of a fit.

    Attributes:
        centres: float64 `[K, D]`, numbers of the output type, in the coordinates of the data.
        coordinates: The coordinates in which the labels were computed.
        labels: int32 `[N]`.
        objective: Weighted sum over all data of the squared distances (of `1 - cosine`).
        passes: Number of passes over all data.
    """

    centres: Float64
    coordinates: Coordinates
    labels: Labels
    objective: float
    passes: int


@dataclass(frozen=True)
class Problem:
    """Rows, and everything a pass over them needs.

    Attributes:
        source: The rows of this process.
        output: Type and device of the results.
        weights: float64 `[N]` of these rows, or None if each counts once.
        coordinates: The coordinates of all centres and distances in the engine.
        bound: Bound on the absolute values in these coordinates, over all processes.
        total: Sum of the weights, over all processes.
        workers: The threads of this process.
        gpus: The GPUs that Faiss searches on; None for the CPU.
        exchange: The other processes.
    """

    source: Source
    output: OutputType
    weights: Float64 | None = None
    coordinates: Coordinates = field(default_factory=Coordinates)
    bound: float = 0.0
    total: float = 0.0
    workers: Workers = field(default_factory=Workers)
    gpus: Gpus | None = None
    exchange: Exchange = field(default_factory=Exchange)

    def with_rows(self, rows: Array, weights: Float64 | None, **changes: Any) -> "Problem":
        """Return the problem of other rows of the same data, all of them in this process."""
        total = float(len(rows)) if weights is None else float(weights.sum())
        changes = {"source": ArraySource(rows), "weights": weights, "total": total, "exchange": Exchange()} | changes
        return replace(self, **changes)

    def representable(self, centres: Float64, fallback: Float64 | None = None) -> Float64:
        """Round centres to numbers of the output type; normalise them first for the cosine.

        Args:
            centres: float64 `[K, D]`, in `coordinates`.
            fallback: Centres that replace those without a direction; the first axis by default.
        """
        if self.coordinates.metric == "cosine":
            norms = np.sqrt(np.einsum("ij,ij->i", centres, centres))[:, None]
            axis: Any = np.eye(1, centres.shape[1]) if fallback is None else fallback
            centres = np.where(norms > 1e-12, centres / np.where(norms > 1e-12, norms, 1), axis)
        return self.coordinates.float64(self.output.round(self.coordinates.restore(centres)))
