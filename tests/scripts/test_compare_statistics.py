"""Means, intervals, paired tests and Holm's correction against scipy and against definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from _compare import statistics as ours

VALUES = np.random.default_rng(0).normal(0.9, 0.02, (4, 7))


def test_mean_deviation_and_interval():
    for values in VALUES:
        summary = ours.summarize(values.tolist())
        low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
        assert summary == pytest.approx(
            {"n": 7, "mean": values.mean(), "sd": values.std(ddof=1), "low": low, "high": high}
        )


@pytest.mark.parametrize(
    ("values", "known"),
    [([], ()), ([0.5], ("mean",)), ([0.5, math.nan], ()), ([0.5, 0.7], ("mean", "sd", "low", "high"))],
)
def test_statistics_that_need_more_values_are_none(values, known):
    summary = ours.summarize(values)
    assert {name for name, value in summary.items() if value is not None} == {"n", *known}
    assert summary["n"] == len(values)


@pytest.mark.parametrize("row", [1, 2, 3])
def test_paired_test_is_scipys(row):
    reference = stats.ttest_rel(VALUES[row], VALUES[0])
    # Pairs are formed by seed, not by order; seeds of only one side do not count.
    values = {seed: VALUES[row][seed] for seed in (3, 1, 0, 2, 6, 5, 4)} | {99: 5.0}
    test = ours.paired_test(values, dict(enumerate(VALUES[0])) | {-1: 7.0})
    assert (test["t"], test["p"]) == pytest.approx((reference.statistic, reference.pvalue))
    interval = reference.confidence_interval()
    assert (test["low"], test["high"]) == pytest.approx((interval.low, interval.high))
    assert test["n"] == 7


def test_pairs_without_spread_are_not_tested():
    equal = ours.paired_test({0: 0.3, 1: 0.4, 2: 0.9}, {0: 0.1, 1: 0.2, 2: 0.7})
    assert equal["difference"] == pytest.approx(0.2)
    assert equal["p"] is None
    assert ours.conclude(equal, None) == "no spread to test against"
    assert ours.conclude(ours.paired_test({0: 1.0, 1: 2.0, 2: 3.0}, {0: 1.0, 1: 2.0, 2: 3.0}), None) == "the same"


def test_holm_by_hand():
    # 4 * 0.01; 3 * 0.02; 2 * 0.04 = 0.08, to which 1 * 0.05 is raised.
    assert ours.holm([0.05, 0.01, 0.04, 0.02]) == pytest.approx([0.08, 0.04, 0.08, 0.06])
    assert ours.holm([0.6, None, 0.7]) == [1.0, None, 1.0]
    assert ours.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.999))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values, level):
    ordered = sorted(range(len(p_values)), key=lambda place: p_values[place])
    rejected = set()
    for rank, place in enumerate(ordered):  # the procedure as Holm states it
        if p_values[place] * (len(p_values) - rank) > level:
            break
        rejected.add(place)
    assert {place for place, p in enumerate(ours.holm(p_values)) if p <= level} == rejected


def test_conclusions():
    seeds = range(5)
    scores = {
        "base": {seed: 0.90 + 0.001 * seed for seed in seeds},
        "far": {seed: 0.95 + 0.001 * seed + 0.0005 * (seed % 2) for seed in seeds},
        "below": {seed: 0.80 + 0.001 * seed + 0.0005 * (seed % 2) for seed in seeds},
        "near": {seed: 0.90 + 0.003 * (-1) ** seed for seed in seeds},
        "failed": {},
        "broken": dict.fromkeys(seeds, math.nan),
    }
    tests = ours.against_baseline(scores, "base")
    assert {name: test["conclusion"] for name, test in tests.items()} == {
        "far": "higher",
        "below": "lower",
        "near": "no difference shown",
        "failed": "no pairs",
        "broken": "not finite",
    }
    assert tests["near"]["holm"] == pytest.approx(tests["near"]["p"])  # the largest of the three possible tests
    smallest = min(("far", "below"), key=lambda name: tests[name]["p"])
    assert tests[smallest]["holm"] == pytest.approx(3 * tests[smallest]["p"])
    for two in ({0: 0.9, 1: 0.9001}, {0: 0.9, 1: 0.902}):
        few = ours.against_baseline({"base": {0: 0.1, 1: 0.1}, "far": two}, "base")
        assert few["far"]["conclusion"] == "too few seeds"


def test_the_note_states_the_power_of_few_seeds():
    two = ours.note([2])
    assert "1 degree of freedom" in two
    assert f"{stats.t.ppf(0.975, 1):.1f} standard errors" in two
    assert "too few seeds to conclude anything" in two
    five = ours.note([5, 5, 1])
    assert f"{stats.t.ppf(1 - 0.025 / 3, 4):.1f} standard errors" in five
    assert "too few" not in five
    assert "no interval and no test" in ours.note([1, 1, 0])
    assert "nothing to test against" in ours.note([])


def test_combinations_whose_runs_failed_are_named():
    tests = {"A": {"n": 5}, "B": {"n": 1}, "C": {"n": 5}}
    assert ours.fewer(tests) == " With fewer seeds, since runs failed: B (1 of 5)."
    assert ours.fewer({"A": {"n": 5}}) == ours.fewer({}) == ""
