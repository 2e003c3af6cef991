"""The starts: each seeded and improved on a small sample, the best of them refined on a larger one."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .assignment import Assignment, Ground
from .coordinates import Float64
from .data import Held
from .lloyd import Descent, Settle, descend
from .local_search import split_and_merge, swap
from .parallel import Gpu, Workers
from .seeding import plus_plus, random_rows

Seeding = Literal["k-means++", "random"]

SAMPLE = 131_072
"""Rows of the larger sample."""
_SMALL = 10_240
"""Rows of the small one, or ten for each cluster; fewer where a hundred for each cluster are fewer."""
_LEAST = 2_048
_ROUGH, _CLOSE = 3e-2, 1e-3
"""Tolerances of the iterations on the samples."""
_WORTHWHILE = 4
"""The larger sample pays when the data has so many times its rows."""


class Drawn(NamedTuple):
    """A sample.

    Attributes:
        rows: ``[N, D]``, in the data's coordinates.
        weights: float64 ``[N]``, or None.
    """

    rows: npt.NDArray[Any]
    weights: Float64 | None

    def part(self, which: npt.NDArray[np.int64]) -> "Drawn":
        """Some of its rows."""
        return Drawn(self.rows[which], None if self.weights is None else self.weights[which])


def begin(
    ground: Ground,
    drawn: Drawn,
    rows: int,
    clusters: int,
    seeding: Seeding,
    starts: int,
    rng: np.random.Generator,
    settle: Settle,
    report: Callable[[str], None],
    limit: int,
    tol: float,
) -> Float64:
    """Good centres, from a sample.

    Args:
        ground: The coordinates, and who works.
        drawn: The sample: all of the data, if that is small.
        rows: Rows of the data, on all processes.
        clusters: How many centres.
        seeding: ``"k-means++"`` or ``"random"``.
        starts: How many starts to choose from.
        rng: Where every draw comes from.
        settle: See :data:`clustering.engine.lloyd.Settle`.
        report: Is told what happens.
        limit: The largest number of passes of one run of iterations.
        tol: The tolerance for the whole data: a sample that is all of it is refined so far in every start.

    Returns:
        float64 ``[K, D]``, in the frame.
    """
    size = max(_SMALL, 10 * clusters)
    whole = rows == len(drawn.rows)
    if size >= len(drawn.rows):
        small = drawn
    else:
        size = max(_LEAST, 10 * clusters, min(_SMALL, 100 * clusters))
        small = drawn.part(np.sort(rng.choice(len(drawn.rows), size, replace=False, shuffle=False)))
        whole = False
    report(f"{starts} starts on {len(small.rows):,} rows")
    tolerance = tol if whole else _ROUGH / 3
    one = partial(_start, ground, small, clusters, seeding, settle, limit if whole else 10, tolerance)
    ends = list(ground.workers.map(one, rng.spawn(starts)))
    best = min(ends, key=lambda end: end.objective)  # of equals the first
    if rows < _WORTHWHILE * len(drawn.rows):
        return best.centres
    report(f"the best of them on {len(drawn.rows):,} rows")
    state = Assignment(_ground(ground, drawn, ground.workers, ground.gpus), clusters, drawn.rows.shape[1])
    return descend(state, best.centres, min(limit, 20), _CLOSE, settle, momentum=True).centres


def _start(
    ground: Ground,
    drawn: Drawn,
    clusters: int,
    seeding: Seeding,
    settle: Settle,
    limit: int,
    tol: float,
    rng: np.random.Generator,
) -> Descent:
    """One start, on the calling thread: seeds, iterations, single centres moved, iterations."""
    narrow = ground.frame.narrow(drawn.rows)
    if seeding == "random":
        which = random_rows(len(narrow), drawn.weights, clusters, rng)
    else:
        which = plus_plus(narrow, drawn.weights, clusters, rng)
    here = _ground(ground, drawn, Workers(1))
    centres = settle(ground.frame.exact(drawn.rows[which]))
    end = descend(Assignment(here, clusters, narrow.shape[1]), centres, min(limit, 10), _ROUGH, settle)
    if seeding == "k-means++":
        centres, _ = swap(narrow, drawn.weights, end.centres, rng, 10 * clusters)
        centres, _ = split_and_merge(narrow, drawn.weights, centres, rng)
        return descend(Assignment(here, clusters, narrow.shape[1]), settle(centres), limit, tol, settle)
    return descend(Assignment(here, clusters, narrow.shape[1]), end.centres, limit, tol, settle)


def _ground(ground: Ground, drawn: Drawn, workers: Workers, gpus: tuple[Gpu, ...] = ()) -> Ground:
    """The same ground under a sample, for one process."""
    weight = float(len(drawn.rows)) if drawn.weights is None else float(drawn.weights.sum())
    return Ground(Held(drawn.rows), drawn.weights, ground.frame, ground.reach, weight, workers, gpus)
