"""Starts: each is seeded and improved on a small sample; the best is refined on a larger one."""

import numpy as np

from .data import Float64
from .device import open_rows, place
from .lloyd import descend
from .parallel import Workers
from .problem import Options, Problem, Report
from .survey import Sample

SAMPLE = 131_072
"""Number of rows of the larger sample."""
_SMALL = 10_240
"""Number of rows of the small sample, or ten per cluster; fewer where a hundred per cluster are fewer."""
_LEAST = 2_048
"""Smallest number of rows of the small sample, if it is not all of the larger one."""
_ROUGH, _CLOSE = 3e-2, 1e-3
"""Tolerances of the iterations on the samples."""
_WORTHWHILE = 4
"""The larger sample pays off when the data have this many times its rows."""


def best_start(
    problem: Problem, sample: Sample, rows: int, options: Options, rng: np.random.Generator, report: Report
) -> Float64:
    """Return good centres, float64 `[K, D]`, from a sample.

    If the sample is small and all of the data, which have `rows` rows, each start converges to the tolerance asked for.
    """
    size = max(_SMALL, 10 * options.clusters)
    if size >= len(sample.rows):
        small, whole = sample, rows == len(sample.rows)
    else:
        size = max(_LEAST, 10 * options.clusters, min(_SMALL, 100 * options.clusters))
        small = sample.subset(np.sort(rng.choice(len(sample.rows), size, replace=False, shuffle=False)))
        whole = False
    report(f"{options.starts} starts on {len(small.rows):,} rows")
    settings = options if whole else options._replace(max_iter=10, tol=_ROUGH / 3)
    part = place(problem.with_rows(*small, workers=Workers(1), gpus=None))
    ends = list(problem.workers.map(lambda generator: _start(part, settings, generator), rng.spawn(options.starts)))
    _, centres = min(ends, key=lambda end: end[0])  # the first of equals
    if rows < _WORTHWHILE * len(sample.rows):
        return centres
    report(f"the best start on {len(sample.rows):,} rows")
    state = open_rows(place(problem.with_rows(*sample))).assignment(options.clusters)
    limit = min(options.max_iter, 20)
    return descend(state, centres, limit, _CLOSE, problem.representable, momentum=True)


def _start(problem: Problem, options: Options, rng: np.random.Generator) -> tuple[float, Float64]:
    """Run one start on the calling thread (seeding, rough iterations, local search, iterations).

    Returns its objective and its centres.
    """
    rows, rounding = open_rows(problem), problem.representable
    assert isinstance(options.init, str)  # given centres need no start
    centres = rounding(rows.seed(options.init, options.clusters, rng))
    state = rows.assignment(options.clusters)
    centres = descend(state, centres, min(options.max_iter, 10), _ROUGH, rounding)
    if options.init == "k-means++":
        centres = rounding(rows.improve(centres, rng))
    state.reset()
    centres = descend(state, centres, options.max_iter, options.tol, rounding)
    return state.objective, centres
