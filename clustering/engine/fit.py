"""A fit from the data to the labels: survey, starts, iterations on everything."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .coordinates import Coordinates
from .data import BLOCK, Float64
from .device import Place, open_rows, place
from .lloyd import descend, sweep
from .parallel import Inline, Workers, open_gpus
from .problem import Options, Problem, Report, Result
from .rows import Assignment
from .starts import SAMPLE, best_start
from .survey import Sample, draw_sample, scale_weights, survey, unscale

_CHEAP = 128
"""Up to this many numbers in the centres, threads lose more time waiting for Python's lock than they gain."""


def fit_centres(problem: Problem, options: Options) -> Result:
    """Fit centres to data, see `clustering.KMeans`; coordinates, totals, workers and GPUs are determined here."""
    options = options._replace(seed=problem.exchange.collect([options.seed])[0])
    rng = np.random.default_rng(options.seed)
    cheap = options.clusters * problem.source.dim <= _CHEAP
    shown = options.verbose and problem.exchange.rank == 0
    threads = Inline() if options.device is not None else Workers(1 if cheap else None)
    with _progress(shown, options) as report, threads as workers:
        problem = replace(problem, workers=workers, device=options.device, precision=options.precision)
        problem, exponent = scale_weights(place(problem))
        seen = survey(problem, options.clusters)
        sample = draw_sample(problem, SAMPLE, rng)
        coordinates = Coordinates.around(sample.rows, options.metric)
        bound = coordinates.bound(seen.low, seen.high)
        gpus = open_gpus(options.gpus)
        problem = replace(problem, coordinates=coordinates, bound=bound, total=seen.weight, gpus=gpus)
        run = _Fit(problem, options, seen.rows, report)
        try:
            result = run.run(sample, rng)
        except KeyboardInterrupt:
            if run.latest is None or problem.exchange.size > 1:
                raise
            result = run.stop()
        return result._replace(objective=unscale(result.objective, exponent))


class _Fit:
    """One fit, which remembers the latest centres so that Ctrl-C keeps them."""

    def __init__(self, problem: Problem, options: Options, rows: int, report: Report) -> None:
        self.problem, self.options, self.rows, self.report = problem, options, rows, report
        self.latest: Float64 | None = None
        self.passes = 0
        self.state: Assignment | None = None

    def run(self, sample: Sample, rng: np.random.Generator) -> Result:
        """Find centres on the sample, then iterate on all data."""
        options, momentum = self.options, isinstance(self.options.init, str)
        if isinstance(options.init, str):
            centres = self._start(sample, rng)
        else:
            centres = self._rounded(self.problem.coordinates.float64(options.init))
        self.latest, limit = centres, options.max_iter
        if options.algorithm == "minibatch":
            self.latest = centres = sweep(self.problem, centres, limit, rng, self._after_batch)
            limit = 1
        self.state = open_rows(self.problem).assignment(options.clusters)
        descend(self.state, centres, limit, options.tol, self._rounded, self._after_pass, momentum)
        return self._result(self.state)

    def stop(self) -> Result:
        """After Ctrl-C, assign the data to the latest centres in one more pass."""
        assert self.latest is not None
        warnings.warn(
            f"interrupted after {self.passes} passes: the best centres so far are kept, and one more pass labels the "
            "data (Ctrl-C again cancels that too)",
            ConvergenceWarning,
            stacklevel=2,
        )
        state = self.state or open_rows(self.problem).assignment(self.options.clusters)
        state.reset()
        descend(state, self.latest, 1, 0.0, self._rounded)
        return self._result(state)

    def _start(self, sample: Sample, rng: np.random.Generator) -> Float64:
        exchange = self.problem.exchange
        centres = []
        if exchange.rank == 0:  # only one process, because the last bits may differ between processors
            centres.append(best_start(self.problem, sample, self.rows, self.options, rng, self.report))
        return exchange.collect(centres)[0]

    def _rounded(self, centres: Float64) -> Float64:
        return self.problem.representable(centres, self.latest)

    def _after_pass(self, objective: float) -> None:
        assert self.state is not None
        self.latest, self.passes = self.state.centres, self.passes + 1
        self.report(f"pass {self.passes}", objective)

    def _after_batch(self, centres: Float64, step: int) -> None:
        self.latest = centres
        self.report(f"batch {step}")

    def _result(self, state: Assignment) -> Result:
        objective = state.objective
        if state.doubtful or self.rows <= BLOCK:
            objective = open_rows(self.problem).objective(state.centres, state.labels)
        if (state.counts <= 0).any():
            filled = int((state.counts > 0).sum())
            warnings.warn(
                f"only {filled} of {self.options.clusters} clusters have rows: X may have fewer distinct rows",
                ConvergenceWarning,
                stacklevel=2,
            )
        coordinates = self.problem.coordinates
        objective, passes = coordinates.restore_objective(objective), max(self.passes, 1)
        return Result(coordinates.restore(state.centres), coordinates, state.labels, objective, passes)


@contextmanager
def _progress(shown: bool, options: Options) -> Iterator[Report]:
    """Show a progress bar and yield the callback that updates it."""
    if not shown:
        yield lambda text, objective=None: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    title = f"k-means ({Place(options.device, options.gpus)}): "
    with Progress(TextColumn(title + "{task.description}"), BarColumn(), TimeElapsedColumn()) as bar:
        task = bar.add_task("reading the data", total=options.max_iter)

        def report(text: str, objective: float | None = None) -> None:
            value = "" if objective is None else f", objective {objective:.6g}"
            bar.update(task, description=text + value, advance=0 if objective is None else 1)

        yield report
        bar.update(task, total=bar.tasks[0].completed)
