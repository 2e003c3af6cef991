"""Means, intervals and paired tests over seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.05
ENOUGH = 3
"""Fewer pairs than this are inconclusive whatever their p-value: two leave one degree of freedom."""


def limits(metric: str) -> tuple[float, float]:
    """Return the smallest and the largest value that a metric can have.

    Example:
        >>> limits("test/accuracy"), limits("test/nll")
        ((0.0, 1.0), (0.0, inf))
    """
    name = metric.rpartition("/")[2]
    if name.endswith("accuracy") or name == "ece":
        return 0.0, 1.0
    return (0.0, math.inf) if name in ("nll", "loss") else (-math.inf, math.inf)


def summarize(values: Sequence[float], within: tuple[float, float] = (-math.inf, math.inf)) -> dict[str, Any]:
    """Return the number of values, their mean and standard deviation, and the mean's 95% interval by Student's t.

    A number for which there are too few values is None, as all are if a value is not finite. The interval is cut where
    the mean cannot be, outside `within`: it covers the true mean as often as before. (An interval of the logits would
    have no end as soon as one accuracy is 1.)

    Example:
        >>> {name: round(value, 3) for name, value in summarize([1.0, 2.0, 3.0]).items()}
        {'n': 3, 'mean': 2.0, 'sd': 1.0, 'low': -0.484, 'high': 4.484}
    """
    n = len(values)
    summary: dict[str, Any] = {"n": n, "mean": None, "sd": None, "low": None, "high": None}
    if n == 0 or not all(map(math.isfinite, values)):
        return summary
    summary["mean"] = mean = float(np.mean(values))
    if n == 1:
        return summary
    sd = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(1 - LEVEL / 2, n - 1)) * sd / math.sqrt(n)
    return summary | {"sd": sd, "low": max(mean - half, within[0]), "high": min(mean + half, within[1])}


def paired_test(
    values: Mapping[int, float], baseline: Mapping[int, float], within: tuple[float, float] = (-math.inf, math.inf)
) -> dict[str, Any]:
    """Run Student's paired t-test between two mappings seed -> result, over the seeds that both have.

    Returns:
        `n`, the number of pairs; `difference`, the mean; `low` and `high`, its 95% interval, cut where differences of
        values `within` these limits cannot be; `t`; `p`. The last two are None for a single pair, and if all pairs have
        the same difference.
    """
    seeds = sorted(values.keys() & baseline.keys())
    width = within[1] - within[0]
    summary = summarize([values[seed] - baseline[seed] for seed in seeds], (-width, width))
    test: dict[str, Any] = {"n": len(seeds), "difference": summary["mean"], "t": None, "p": None}
    test |= {bound: summary[bound] for bound in ("low", "high")}
    # Differences that are equal up to rounding have no spread to test against.
    scale = max((abs(values[seed]) + abs(baseline[seed]) for seed in seeds), default=0.0)
    if summary["sd"] is not None and summary["sd"] > 1e-12 * scale:
        test["t"] = summary["mean"] / (summary["sd"] / math.sqrt(len(seeds)))
        test["p"] = float(2 * stats.t.sf(abs(test["t"]), len(seeds) - 1))
    return test


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Apply Holm's correction for several tests at once (Scandinavian Journal of Statistics 6, 1979).

    The k-th smallest of m p-values is multiplied by m - k + 1; the results are made non-decreasing and at most 1.
    None is the p-value of a test that could not be made, which does not count.

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


def against_baseline(
    scores: Mapping[str, Mapping[int, float]], baseline: str, within: tuple[float, float] = (-math.inf, math.inf)
) -> dict[str, dict[str, Any]]:
    """Test every other combination (name -> seed -> result) against the baseline by `paired_test`.

    Each result also has `holm`, the p-value corrected for all tests, and the `conclusion`.
    """
    others = [name for name in scores if name != baseline]
    tests = {name: paired_test(scores[name], scores[baseline], within) for name in others}
    for name, p in zip(others, holm([tests[name]["p"] for name in others]), strict=True):
        tests[name] |= {"holm": p, "conclusion": conclude(tests[name], p)}
    return tests


def conclude(test: Mapping[str, Any], p: float | None) -> str:
    """Return the verdict of a test."""
    if test["difference"] is None:
        return "no pairs" if test["n"] == 0 else "not finite"
    if test["n"] < ENOUGH:
        return "too few seeds"
    if p is None:
        return "the same" if test["difference"] == 0 else "no spread to test against"
    if p >= LEVEL:
        return "no difference shown"
    return "higher" if test["difference"] > 0 else "lower"


def ties(tests: Mapping[str, Mapping[str, Any]], baseline: str) -> str:
    """Return a line about the combinations whose results equal the baseline's with every seed; empty without any."""
    same = [name for name, test in tests.items() if test["conclusion"] == "the same"]
    return f" The same as {baseline} with every seed: {'; '.join(same)}." if same else ""


def fewer(tests: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a line about the combinations that have fewer pairs than others; empty without any."""
    most = max((test["n"] for test in tests.values()), default=0)
    few = [f"{name} ({test['n']} of {most})" for name, test in tests.items() if test["n"] < most]
    return f" With fewer seeds, since runs failed: {'; '.join(few)}." if few else ""


def note(numbers: Sequence[int]) -> str:
    """Return a note on the power of tests made at once, of which those with the most pairs count."""
    if not numbers:
        return "One combination: there is nothing to test against."
    pairs, tests = max(numbers), len(numbers)
    if pairs < 2:
        return f"{pairs} seed{'s' * (pairs != 1)} in common: no interval and no test. Use --seeds 5 or more."
    needed = float(stats.t.ppf(1 - LEVEL / 2 / tests, pairs - 1))
    size = (
        f"{pairs} seeds: a paired t-test has {pairs - 1} degree{'s' * (pairs > 2)} of freedom; among {tests} "
        f"test{'s' * (tests > 1)} the clearest difference must be {needed:.1f} standard errors from 0 to show at 5%"
    )
    if pairs < ENOUGH:
        return f"{size}. These are too few seeds to conclude anything: use --seeds 5 or more."
    return f"{size}. A difference that does not show is not ruled out."
