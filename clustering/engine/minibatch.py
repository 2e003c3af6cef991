"""Mini-batch k-means: the centres follow batches of rows, each at a rate that falls with what it has seen.

Reference: Sculley, "Web-scale k-means clustering" (WWW 2010).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .assignment import Assignment, Ground
from .data import BLOCK, Held
from .grid import Float64
from .lloyd import Settle

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
