"""Means, intervals and paired tests over seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.05
ENOUGH = 3
"""Fewer pairs than this conclude nothing, whatever their p-value is: with two, one degree of freedom is left."""


def summarize(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation, and the mean's 95% interval by Student's t.

    Args:
        values: One for each seed.

    Returns:
        ``n``, ``mean``, ``sd``, ``low``, ``high``; None for what so few values do not have.

    Example:
        >>> {name: round(value, 3) for name, value in summarize([1.0, 2.0, 3.0]).items()}
        {'n': 3, 'mean': 2.0, 'sd': 1.0, 'low': -0.484, 'high': 4.484}
    """
    n = len(values)
    if n == 0 or not all(map(math.isfinite, values)):
        return {"n": n, "mean": None, "sd": None, "low": None, "high": None}
    mean = float(np.mean(values))
    if n == 1:
        return {"n": n, "mean": mean, "sd": None, "low": None, "high": None}
    sd = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(1 - LEVEL / 2, n - 1)) * sd / math.sqrt(n)
    return {"n": n, "mean": mean, "sd": sd, "low": mean - half, "high": mean + half}


def paired_test(values: Mapping[int, float], baseline: Mapping[int, float]) -> dict[str, Any]:
    """Student's paired t-test over the seeds that both have.

    Args:
        values: Seed -> result.
        baseline: The same of what it is compared with.

    Returns:
        ``n``, the number of pairs; ``difference``, its mean; ``low`` and ``high``, its 95% interval; ``t``; ``p``. None
        for what there is not: with one pair, or when all pairs differ by the same.
    """
    seeds = sorted(values.keys() & baseline.keys())
    found = summarize([values[seed] - baseline[seed] for seed in seeds])
    test: dict[str, Any] = {"n": len(seeds), "difference": found["mean"], "low": found["low"], "high": found["high"]}
    test |= {"t": None, "p": None}
    # Differences that are equal but for rounding have no spread to test against.
    scale = max((abs(values[seed]) + abs(baseline[seed]) for seed in seeds), default=0.0)
    if found["sd"] is not None and found["sd"] > 1e-12 * scale:
        test["t"] = found["mean"] / (found["sd"] / math.sqrt(len(seeds)))
        test["p"] = float(2 * stats.t.sf(abs(test["t"]), len(seeds) - 1))
    return test


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction for several tests at once (Scandinavian Journal of Statistics 6, 1979).

    The k-th smallest of m p-values is multiplied by m - k + 1; none becomes smaller than one before it, or more than 1.

    Args:
        p_values: None for a test that could not be made, which does not count.

    Example:
        >>> holm([0.01, None, 0.04, 0.03])
        [0.03, None, 0.06, 0.06]
    """
    made = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(made):
        largest = max(largest, min(1.0, (len(made) - rank) * p))
        corrected[place] = largest
    return corrected


def against_baseline(scores: Mapping[str, Mapping[int, float]], baseline: str) -> dict[str, dict[str, Any]]:
    """Every combination tested against the baseline, with Holm's correction over all of them.

    Args:
        scores: Name -> seed -> result.
        baseline: One of the names.

    Returns:
        Name -> what :func:`paired_test` returns, ``holm`` and ``conclusion``; without the baseline.
    """
    others = [name for name in scores if name != baseline]
    tests = {name: paired_test(scores[name], scores[baseline]) for name in others}
    for name, p in zip(others, holm([tests[name]["p"] for name in others]), strict=True):
        tests[name] |= {"holm": p, "conclusion": conclude(tests[name], p)}
    return tests


def conclude(test: Mapping[str, Any], p: float | None) -> str:
    """What a test lets one say, in a few words."""
    if test["difference"] is None:
        return "no pairs" if test["n"] == 0 else "not finite"
    if test["n"] < ENOUGH:
        return "too few seeds"
    if p is None:
        return "the same" if test["difference"] == 0 else "no spread to test against"
    if p >= LEVEL:
        return "no difference shown"
    return "higher" if test["difference"] > 0 else "lower"


def note(pairs: int, tests: int) -> str:
    """What the number of seeds allows, in a sentence or two.

    Args:
        pairs: Seeds that a test has at least.
        tests: How many tests were made at once.
    """
    if tests == 0:
        return "One combination: there is nothing to test against."
    if pairs < 2:
        return f"{pairs} seed{'s' * (pairs != 1)} in common: no interval and no test. Use --seeds 5 or more."
    needed = float(stats.t.ppf(1 - LEVEL / 2 / tests, pairs - 1))
    size = (
        f"{pairs} seeds: a paired t-test has {pairs - 1} degree{'s' * (pairs > 2)} of freedom; among {tests} "
        f"test{'s' * (tests > 1)} the clearest difference must be {needed:.1f} standard errors from 0 to show at 5%"
    )
    if pairs < ENOUGH:
        return f"{size}. These are too few seeds to conclude anything: use --seeds 5 or more."
    return f"{size}. What does not show may be there all the same."
