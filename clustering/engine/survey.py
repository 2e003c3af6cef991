"""The first look at the data: how many rows, how large, whether all of it is finite; and a sample of it."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .coordinates import Float64
from .data import Block, Source
from .parallel import Exchange, Workers


class Survey(NamedTuple):
    """What one look at all rows tells.

    Attributes:
        rows: Their number, on all processes.
        low: The smallest value.
        high: The largest.
        weight: The sum of the weights.
    """

    rows: int
    low: float
    high: float
    weight: float


def survey(source: Source, weights: Float64 | None, workers: Workers, exchange: Exchange, few: int) -> Survey:
    """Look at every row.

    Args:
        source: The data of this process.
        weights: Of its rows.
        workers: Who looks.
        exchange: The other processes.
        few: The data must have at least so many rows whose weight is not zero.

    Raises:
        ValueError: For NaN, infinite values, and too few rows, on every process.
    """
    ranges = np.array([(np.inf, -np.inf), *workers.map(_range, source.blocks())])  # a process may have no row
    low, high = float(ranges[:, 0].min()), float(ranges[:, 1].max())
    counting = source.count if weights is None else int(np.count_nonzero(weights))
    weight = float(source.count) if weights is None else float(weights.sum())
    parts = exchange.collect([(source.count, low, high, weight, counting)])
    rows, counting = sum(part[0] for part in parts), sum(part[4] for part in parts)
    low, high = float(np.min([part[1] for part in parts])), float(np.max([part[2] for part in parts]))
    if rows:
        check_finite(low, high)
    if rows and not counting:
        raise ValueError("sample_weight is zero everywhere: at least one weight must be positive")
    if counting < few:
        found = f"n_samples={rows}" if counting == rows else f"{counting} samples whose weight is not 0"
        raise ValueError(f"{found} should be >= n_clusters={few}: ask for fewer clusters")
    return Survey(rows, low, high, sum(part[3] for part in parts))


def check_finite(low: float, high: float) -> None:
    """Raise a ValueError where the smallest or the largest of some values is not finite."""
    if np.isnan(low) or np.isnan(high):
        raise ValueError("Input X contains NaN: leave such rows out, or fill the gaps first")
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("Input X contains infinity or a value too large for its type: leave such rows out")


def _range(block: Block) -> tuple[float, float]:
    rows = block.rows()
    return float(rows.min()), float(rows.max())


def sample(
    source: Source, weights: Float64 | None, size: int, rng: np.random.Generator, exchange: Exchange
) -> tuple[npt.NDArray[Any], Float64 | None]:
    """Rows drawn evenly from those whose weight is not zero, in the data's order, and their weights.

    Args:
        source: The data of this process.
        weights: Of its rows.
        size: How many; all rows if there are not more.
        rng: Equal on every process.
        exchange: The other processes; each gets the whole sample.
    """
    eligible = None if weights is None or weights.all() else np.flatnonzero(weights)
    own = source.count if eligible is None else len(eligible)
    counts = exchange.collect([own])
    total, first = sum(counts), sum(counts[: exchange.rank])
    drawn = np.arange(total) if total <= size else np.sort(rng.choice(total, size, replace=False, shuffle=False))
    mine = drawn[np.searchsorted(drawn, first) : np.searchsorted(drawn, first + own)] - first
    which = mine if eligible is None else eligible[mine]
    rows = _joined(exchange.collect([source.take(which)]))
    return rows, None if weights is None else _joined(exchange.collect([weights[which]]))


def _joined(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
