"""Iterations: Lloyd's on all rows of a problem, and mini-batch k-means on batches of them.

References: Lloyd, "Least squares quantization in PCM" (1982); for the momentum, Nesterov (1983), with the restarts of
O'Donoghue, Candes, "Adaptive restart for accelerated gradient schemes" (2015); Sculley, "Web-scale k-means clustering"
(WWW 2010).
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from torch import Tensor

from .data import BLOCK, Array, BatchSource, Float64
from .device import open_rows
from .problem import Problem
from .rows import Assignment

_PATIENCE = 10
"""Mini-batch k-means ends after this many batches without a better smoothed objective."""
_NEGLIGIBLE = 2.0**-50
"""A weight below this share of the sum of all weights is lost in it."""

Rounding = Callable[[Float64], Float64]
"""Rounds centres to representable ones, see `Problem.representable`."""


def descend(
    state: Assignment,
    centres: Float64,
    limit: int,
    tol: float,
    rounding: Rounding,
    report: Callable[[float], None] | None = None,
    momentum: bool = False,
) -> Float64:
    """Move the centres to the means of their rows until they no longer move; return the last ones assigned.

    They have converged when the step to the means would move them, as a weighted root mean square, by at most `tol`
    times the root mean square distance of the rows to them.

    Args:
        state: The assignment to update.
        centres: Initial centres, float64 `[K, D]`.
        limit: Largest number of passes.
        tol: Relative tolerance; with 0 the iterations continue until nothing changes.
        rounding: Applied to all centres but the initial ones.
        report: Receives the objective after each pass.
        momentum: Overshoot the means in the direction of the previous step as long as that lowers the objective. It
            takes fewer passes, but it is not Lloyd's path: from the same centres it may end elsewhere.
    """
    before, best, speed = None, math.inf, 0
    for number in range(1, limit + 1):
        objective = state.assign(centres)
        if report is not None:
            report(objective)
        if number == limit:
            break
        following = rounding(means(state))
        gain = state.relative_objective(centres) - state.relative_objective(following)
        if (state.counts <= 0).any() and fill_empty(state):
            centres, before, best = rounding(means(state)), None, math.inf
            continue
        if gain <= tol**2 * objective or np.array_equal(following, centres):
            break
        # Nesterov's weights, restarted whenever the objective did not fall.
        speed = speed + 1 if objective < best else 0
        best, centres = min(best, objective), following
        if momentum and before is not None and speed > 1:
            centres = rounding(following + (speed - 1) / (speed + 2) * (following - before))
        before = following
    return state.centres


def means(state: Assignment) -> Float64:
    """Return the mean of each cluster; the centre of an empty one."""
    counts = state.counts[:, None]
    return np.where(counts > 0, state.sums / np.where(counts > 0, counts, 1), state.centres)


def fill_empty(state: Assignment) -> bool:
    """Give empty clusters the rows farthest from their centres, if any is off its centre; return whether one moved."""
    empty = np.flatnonzero(state.counts <= 0)
    farthest = state.farthest(len(empty))
    for cluster, far in zip(empty, farthest, strict=False):
        state.reassign(far, int(cluster))
    return bool(farthest)


def sweep(
    problem: Problem, centres: Float64, limit: int, rng: np.random.Generator, report: Callable[[Float64, int], None]
) -> Float64:
    """Run mini-batch k-means: each batch attracts the centres at a rate that falls with the weight they have seen.

    Batches are drawn at random from arrays and tensors. From a `BatchSource` they come in its order, so it should be
    shuffled. There are at most `limit` epochs; `report` receives the centres and the number of each batch.
    """
    seen = np.zeros(len(centres))
    smoothed, best, idle = None, np.inf, 0
    rows = min(BLOCK, max(1, problem.source.count // 4))
    share = min(1.0, 2 * rows / (problem.source.count + 1))
    for step, (batch, weights) in enumerate(_batches(problem, rows, limit, rng), 1):
        weight = float(len(batch) if weights is None else weights.sum())
        if weight <= _NEGLIGIBLE * problem.total:
            continue
        # With the total of all rows a cluster of negligible weight is empty, as in Lloyd's iterations.
        state = open_rows(problem.with_rows(batch, weights, total=problem.total)).assignment(len(centres))
        objective = state.assign(centres) / weight
        seen += state.counts
        rate = np.where(state.counts > 0, 1 / np.where(seen > 0, seen, 1), 0)[:, None]
        moved = centres + rate * (state.sums - state.counts[:, None] * centres)
        centres = problem.representable(moved, fallback=centres)
        report(centres, step)
        smoothed = objective if smoothed is None else (1 - share) * smoothed + share * objective
        best, idle = (smoothed, 0) if smoothed < best else (best, idle + 1)
        if idle >= _PATIENCE:
            break
    return centres


def _batches(
    problem: Problem, size: int, limit: int, rng: np.random.Generator
) -> Iterator[tuple[Array | Tensor, Float64 | None]]:
    """Yield the rows and the weights of the batches of `limit` epochs."""
    source, weights = problem.source, problem.weights
    for _ in range(limit):
        if isinstance(source, BatchSource):
            for start, rows in source.groups():
                yield rows, None if weights is None else weights[start : start + len(rows)]
        else:
            for _ in range(-(-source.count // size)):
                numbers = np.sort(rng.choice(source.count, size, replace=False, shuffle=False))
                yield open_rows(problem).take(numbers), None if weights is None else weights[numbers]
