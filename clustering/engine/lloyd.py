"""Lloyd's iterations on an assignment: means, empty clusters, when to stop.

Reference for the momentum: Nesterov (1983), with the restarts of O'Donoghue, Candes, "Adaptive restart for accelerated
gradient schemes" (2015).

Mini-batch k-means: the centres follow batches of rows, each at a rate that falls with what it has seen.

Reference: Sculley, "Web-scale k-means clustering" (WWW 2010).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .assignment import Assignment, Ground
from .coordinates import Float64
from .data import BLOCK, Held

Settle = Callable[[Float64], Float64]
"""Rounds centres to what can be returned: numbers of the data's type, unit vectors for the cosine."""
Report = Callable[[float], None]
"""Is told the objective after each pass."""


class Descent(NamedTuple):
    """Where the iterations ended.

    Attributes:
        centres: float64 ``[K, D]``, in the frame: those of the assignment's labels.
        objective: Theirs, in the frame.
        passes: How many passes over the data it took.
    """

    centres: Float64
    objective: float
    passes: int


def descend(
    state: Assignment,
    centres: Float64,
    limit: int,
    tol: float,
    settle: Settle,
    report: Report | None = None,
    momentum: bool = False,
) -> Descent:
    """Move the centres to the means of their rows until they stay.

    It ends with a pass whose centres are the returned ones. They have converged when the step to the means would move
    them, as a weighted root mean square, by at most ``tol`` times the root mean square distance of the rows to them.

    Args:
        state: The assignment to work on.
        centres: float64 ``[K, D]`` to begin with, in the frame.
        limit: The largest number of passes.
        tol: See above; with 0 the iterations go on until nothing changes.
        settle: See :data:`Settle`.
        report: See :data:`Report`.
        momentum: Go beyond the means, in the direction of the step before, as long as that lowers the objective. It
            takes fewer passes, but it is not Lloyd's path: from the same centres it may end elsewhere.
    """
    before, best, speed = None, math.inf, 0
    for number in range(1, limit + 1):
        objective = state.move(centres)
        if report is not None:
            report(objective)
        if number == limit:
            break
        following = settle(means(state))
        gain = state.relative_objective(centres) - state.relative_objective(following)
        if (state.counts <= 0).any() and relocate(state):
            centres, before, best = settle(means(state)), None, math.inf
            continue
        if gain <= tol**2 * objective or np.array_equal(following, centres):
            break
        # Nesterov's weights, begun anew whenever the objective did not fall.
        speed = speed + 1 if objective < best else 0
        best, centres = min(best, objective), following
        if momentum and before is not None and speed > 1:
            centres = settle(following + (speed - 1) / (speed + 2) * (following - before))
        before = following
    return Descent(state.centres, objective, number)


def means(state: Assignment) -> Float64:
    """The mean of each cluster; where one is empty, its centre."""
    counts = state.counts[:, None]
    return np.where(counts > 0, state.sums / np.where(counts > 0, counts, 1), state.centres)


def relocate(state: Assignment) -> bool:
    """Give each empty cluster the row that is farthest from its centre, if any row is away from its own.

    A row that is alone in its cluster stays there. Returns whether a cluster got a row.
    """
    empty = np.flatnonzero(state.counts <= 0)
    if not len(empty):
        return False
    found = state.farthest(len(empty))
    for cluster, (_, number, row) in zip(empty, found, strict=False):
        state.give(number, row, int(cluster))
    return bool(found)


_PATIENCE = 10
"""Batches without a better smoothed objective, after which it ends."""


def sweep(
    ground: Ground,
    centres: Float64,
    limit: int,
    rng: np.random.Generator,
    settle: Settle,
    report: Callable[[Float64, int], None],
) -> Float64:
    """Centres after at most ``limit`` times as many rows as there are.

    Rows of data that lies at hand are drawn anew for every batch; batches that are read one after the other are taken
    as they come, so they should be shuffled.

    Args:
        ground: The data.
        centres: float64 ``[K, D]`` to begin with, in the frame.
        limit: See above.
        rng: Where the draws come from.
        settle: See :data:`clustering.engine.lloyd.Settle`.
        report: Is told centres and number after each batch.
    """
    seen = np.zeros(len(centres))
    smoothed, best, idle = None, np.inf, 0
    rows = min(BLOCK, max(1, ground.source.count // 4))
    share = min(1.0, 2 * rows / (ground.source.count + 1))
    for step, (data, weights) in enumerate(_batches(ground, rows, limit, rng), 1):
        weight = float(len(data)) if weights is None else float(weights.sum())
        if weight == 0:
            continue
        here = Ground(Held(data), weights, ground.frame, ground.reach, weight, ground.workers, ground.gpus)
        state = Assignment(here, len(centres), centres.shape[1])
        objective = state.move(centres) / weight
        seen += state.counts
        rate = np.where(state.counts > 0, 1 / np.where(seen > 0, seen, 1), 0)[:, None]
        centres = settle(centres + rate * (state.sums - state.counts[:, None] * centres))
        report(centres, step)
        smoothed = objective if smoothed is None else (1 - share) * smoothed + share * objective
        best, idle = (smoothed, 0) if smoothed < best else (best, idle + 1)
        if idle >= _PATIENCE:
            break
    return centres


def _batches(
    ground: Ground, rows: int, limit: int, rng: np.random.Generator
) -> Iterator[tuple[npt.NDArray[Any], Float64 | None]]:
    count, weights = ground.source.count, ground.weights
    for _ in range(limit):
        if isinstance(ground.source, Held):
            for _ in range(-(-count // rows)):
                which = np.sort(rng.choice(count, rows, replace=False, shuffle=False))
                yield ground.source.take(which), None if weights is None else weights[which]
        else:
            for block in ground.source.blocks():
                yield block.rows(), None if weights is None else weights[block.start : block.stop]
