"""A fit from the data to the labels: survey, starts, iterations on everything.

A progress bar for long fits.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from sklearn.exceptions import ConvergenceWarning

from .assignment import Assignment, Ground
from .coordinates import Float64, Frame, Metric
from .data import BLOCK, Kind, Source
from .lloyd import Descent, descend, sweep
from .nearest import Labels
from .parallel import Exchange, Workers, resources
from .starts import SAMPLE, Drawn, Seeding, begin
from .survey import sample, survey


@contextmanager
def progress(shown: bool, limit: int) -> Iterator[Callable[[str, float | None], None]]:
    """A function that is told what happens, and the objective after each pass over the data."""
    if not shown:
        yield lambda text, objective: None
        return
    columns = (TextColumn("k-means: {task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("looking at the data", total=limit)

        def report(text: str, objective: float | None) -> None:
            value = "" if objective is None else f", objective {objective:.6g}"
            bar.update(task, description=text + value, advance=0 if objective is None else 1)

        yield report
        bar.update(task, total=bar.tasks[0].completed)


_CHEAP = 128
"""Up to so many numbers in the centres, threads lose more time waiting for Python's lock than they gain."""


class Options(NamedTuple):
    """What a fit is asked for; the estimator's parameters, checked."""

    clusters: int
    columns: int
    init: Seeding | Float64
    starts: int
    limit: int
    tol: float
    metric: Metric
    algorithm: Literal["lloyd", "minibatch"]
    gpus: list[int]
    seed: int


class Fitted(NamedTuple):
    """What came out.

    Attributes:
        centres: float64 ``[K, D]``, numbers of the data's type, in its coordinates.
        frame: The coordinates that the labels were found in.
        labels: int32 ``[N]``.
        objective: The sum of squared distances (of ``1 - cosine``) over all data, weighted.
        passes: Passes over all data.
    """

    centres: Float64
    frame: Frame
    labels: Labels
    objective: float
    passes: int


def fit(
    source: Source,
    weights: Float64 | None,
    kind: Kind,
    options: Options,
    exchange: Exchange,
    report: Callable[[str, float | None], None],
) -> Fitted:
    """Fit centres to data, see :class:`clustering.KMeans`."""
    cheap = options.clusters * options.columns <= _CHEAP
    with Workers(1 if cheap else None) as workers:
        rng = np.random.default_rng(options.seed)
        seen = survey(source, weights, workers, exchange, options.clusters)
        rows, mass = sample(source, weights, SAMPLE, rng, exchange)
        frame = Frame.around(rows, options.metric)
        ground = Ground(
            source, weights, frame, _reach(frame, seen.low, seen.high), seen.weight, workers,
            resources(options.gpus), exchange,
        )  # fmt: skip
        run = _Run(ground, kind, options, report)
        try:
            return run.go(Drawn(rows, mass), rng, seen.rows)
        except KeyboardInterrupt:
            if run.latest is None or exchange.size > 1:
                raise
            return run.stop_here()


class _Run:
    """One fit; remembers the best centres, so that Ctrl-C keeps them."""

    def __init__(
        self, ground: Ground, kind: Kind, options: Options, report: Callable[[str, float | None], None]
    ) -> None:
        self.ground, self.kind, self.options, self.report = ground, kind, options, report
        self.latest: Float64 | None = None
        self.passes = 0
        self.state: Assignment | None = None

    def settle(self, centres: Float64) -> Float64:
        """Round centres to numbers of the data's type; unit vectors for the cosine."""
        if self.options.metric == "cosine":
            centres = _unit(centres, self.latest)
        return self.ground.frame.inside(self.kind.round(self.ground.frame.outside(centres)))

    def go(self, drawn: Drawn, rng: np.random.Generator, rows: int) -> Fitted:
        options = self.options
        if isinstance(options.init, str):
            centres = self._begin(drawn, rows, rng)
        else:
            centres = self.settle(self.ground.frame.inside(options.init))
        self.latest = centres
        if options.algorithm == "minibatch":
            centres = sweep(self.ground, centres, options.limit, rng, self.settle, self._sweeping)
            self.latest = centres
        self.state = self._assignment()
        limit = 1 if options.algorithm == "minibatch" else options.limit
        momentum = isinstance(options.init, str)
        end = descend(self.state, centres, limit, options.tol, self.settle, self._passed, momentum)
        return self._finish(end, rows)

    def stop_here(self) -> Fitted:
        """After Ctrl-C: one pass with the best centres so far."""
        assert self.latest is not None
        warnings.warn(
            f"interrupted after {self.passes} passes: the best centres so far are kept, and one more pass labels the "
            "data (Ctrl-C again to stop that too)",
            ConvergenceWarning,
            stacklevel=2,
        )
        if self.state is None:
            self.state = self._assignment()
        self.state.forget()
        return self._finish(descend(self.state, self.latest, 1, 0.0, self.settle), self.ground.source.count)

    def _begin(self, drawn: Drawn, rows: int, rng: np.random.Generator) -> Float64:
        options, exchange = self.options, self.ground.exchange
        centres = []
        if exchange.rank == 0:  # the other processes may have another processor, and other last bits
            assert isinstance(options.init, str)
            found = begin(
                self.ground, drawn, rows, options.clusters, options.init, options.starts, rng, self.settle,
                lambda text: self.report(text, None), options.limit, options.tol,
            )  # fmt: skip
            centres.append(found)
        return exchange.collect(centres)[0]

    def _assignment(self) -> Assignment:
        return Assignment(self.ground, self.options.clusters, len(self.ground.frame.offset))

    def _passed(self, objective: float) -> None:
        assert self.state is not None
        self.latest, self.passes = self.state.centres, self.passes + 1
        self.report(f"pass {self.passes}", objective)

    def _sweeping(self, centres: Float64, step: int) -> None:
        self.latest = centres
        self.report(f"batch {step}", None)

    def _finish(self, end: Descent, rows: int) -> Fitted:
        assert self.state is not None
        exact = self.state.doubtful or rows <= BLOCK
        objective = self.state.summed_objective() if exact else end.objective
        if (self.state.counts <= 0).any():
            there = int((self.state.counts > 0).sum())
            warnings.warn(
                f"only {there} of {self.options.clusters} clusters have rows: X may have fewer distinct rows",
                ConvergenceWarning,
                stacklevel=2,
            )
        frame = self.ground.frame
        objective = objective / 2 if self.options.metric == "cosine" else objective / frame.scale**2
        return Fitted(frame.outside(end.centres), frame, self.state.labels, objective, max(self.passes, 1))


def _unit(centres: Float64, before: Float64 | None) -> Float64:
    norms = np.sqrt(np.einsum("ij,ij->i", centres, centres))[:, None]
    # Directions that cancel out have no mean: such a centre stays, or takes the first axis.
    fallback: Any = np.eye(1, centres.shape[1]) if before is None else before
    return np.where(norms > 1e-12, centres / np.where(norms > 1e-12, norms, 1), fallback)


def _reach(frame: Frame, low: float, high: float) -> float:
    """A bound of the coordinates in the frame."""
    if frame.metric == "cosine":
        return 1.0
    far = max(abs(high - float(frame.offset.min())), abs(low - float(frame.offset.max())))
    return far * frame.scale
