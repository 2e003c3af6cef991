"""The first pass over the data (number of rows, range, sum of the weights) and the sample drawn from them."""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from torch import Tensor

from .data import Array, Float64, Numbers, check_finite, to_numpy
from .device import open_rows
from .problem import Problem


class Survey(NamedTuple):
    """Number of rows on all processes, their smallest and largest value, and the sum of their weights."""

    rows: int
    low: float
    high: float
    weight: float


class Sample(NamedTuple):
    """Some rows `[N, D]`, in the coordinates of the data, and their weights."""

    rows: Array | Tensor
    weights: Float64 | None

    def subset(self, numbers: Numbers) -> "Sample":
        """Return the rows with the given numbers."""
        return Sample(self.rows[numbers], None if self.weights is None else self.weights[numbers])


def scale_weights(problem: Problem) -> tuple[Problem, int]:
    """Return the problem with weights near 1 instead of weights that would overflow or underflow in sums and products.

    Also returned is e, where the weights were 2^e times as large: 0 for usual weights, which stay as they are.
    """
    weights = problem.weights
    own = 1.0 if weights is None else float(weights.max(initial=0))
    _, exponent = math.frexp(max(problem.exchange.collect([own])))
    if weights is None or abs(exponent) < 300:
        return problem, 0
    return replace(problem, weights=np.ldexp(weights, -exponent)), exponent


def unscale(objective: float, exponent: int) -> float:
    """Return the objective of the weights that `scale_weights` was given; infinity if it is too large."""
    with np.errstate(over="ignore", under="ignore"):
        return float(np.ldexp(objective, exponent))


def survey(problem: Problem, least: int) -> Survey:
    """Read every row once and check, on every process: all finite, at least `least` of positive weight."""
    low, high = open_rows(problem).extremes()
    count, weights = problem.source.count, problem.weights
    positive = count if weights is None else int(np.count_nonzero(weights))
    weight = float(count) if weights is None else float(weights.sum())
    parts = problem.exchange.collect([(count, low, high, weight, positive)])
    rows, positive = sum(part[0] for part in parts), sum(part[4] for part in parts)
    low, high = float(np.min([part[1] for part in parts])), float(np.max([part[2] for part in parts]))
    if rows:
        check_finite(low, high)
    if rows and not positive:
        raise ValueError("sample_weight must be positive for at least one row, found zeros only")
    if positive < least:
        available = f"n_samples={rows}" if positive == rows else f"{positive} samples with positive weight"
        raise ValueError(f"{available} should be >= n_clusters={least}: reduce n_clusters")
    return Survey(rows, low, high, sum(part[3] for part in parts))


def draw_sample(problem: Problem, size: int, rng: np.random.Generator) -> Sample:
    """Draw `size` rows uniformly from those with a positive weight (all, if there are no more), in order.

    `rng` is equal on every process, and each gets the whole sample.
    """
    weights, exchange = problem.weights, problem.exchange
    eligible = None if weights is None or weights.all() else np.flatnonzero(weights)
    own = problem.source.count if eligible is None else len(eligible)
    counts = exchange.collect([own])
    total, first = sum(counts), sum(counts[: exchange.rank])
    chosen = np.arange(total) if total <= size else np.sort(rng.choice(total, size, replace=False, shuffle=False))
    local = chosen[np.searchsorted(chosen, first) : np.searchsorted(chosen, first + own)] - first
    numbers = local if eligible is None else eligible[local]
    taken = open_rows(problem).take(numbers)
    rows = _join(exchange.collect([taken if exchange.size == 1 else to_numpy(taken)]))
    return Sample(rows, None if weights is None else np.concatenate(exchange.collect([weights[numbers]])))


def _join(parts: list[Array | Tensor]) -> Array | Tensor:
    return parts[0] if len(parts) == 1 else np.concatenate([to_numpy(part) for part in parts])
