"""Uncertainty against independent references where values tie, are equal, infinite, missing, or of one class."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score, roc_curve

from evaluation.uncertainty import (
    ConformalSets,
    KNearestScore,
    aurc,
    energy,
    max_probability,
    risk_coverage,
    separation,
)


def slow_scores(p, u, method, penalty, rank):
    """Every class's score in plain float64 loops, as the papers define it; `u` is the example's draw."""
    order = sorted(range(len(p)), key=lambda k: (-p[k], k))
    scores = [0.0] * len(p)
    for place, k in enumerate(order, 1):
        larger = math.fsum(p[other] for other in order[: place - 1])
        penalised = penalty * max(0, place - rank) if method == "raps" else 0.0
        scores[k] = 1 - p[k] if method == "lac" else larger + u * p[k] + penalised
    return scores


def slow_threshold(scores, alpha):
    """The smallest score that at least ceil((n + 1)(1 - alpha)) scores do not exceed, by counting."""
    needed = (len(scores) + 1) * (1 - alpha)
    fitting = [s for s in scores if sum(other <= s for other in scores) >= needed - 1e-9]
    return min(fitting, default=math.inf)


def tied_probabilities(n, classes, seed):
    """Rows of quarters, most of which have equal entries, and labels."""
    draw = np.random.default_rng(seed)
    return draw.multinomial(4, np.full(classes, 1 / classes), n) / 4, draw.integers(0, classes, n)


@pytest.mark.parametrize("randomized", [True, False])
@pytest.mark.parametrize("method", ["lac", "aps", "raps"])
@pytest.mark.parametrize("alpha", [0.02, 0.1, 0.5, 0.9])
def test_conformal_sets_of_tied_probabilities(method, alpha, randomized):
    p, labels = tied_probabilities(99, 5, seed=3)
    new, _ = tied_probabilities(40, 5, seed=4)
    options = {"penalty": 0.125, "rank": 1}
    sets = ConformalSets(alpha, method, randomized=randomized, seed=7, **options).fit(p, labels)
    generator = torch.Generator().manual_seed(7)
    drawn = [torch.rand(n, 1, generator=generator, dtype=torch.float64).ravel().tolist() for n in (99, 40)]
    u, v = drawn if randomized and method != "lac" else ([1.0] * 99, [1.0] * 40)
    own = [slow_scores(row, one, method, **options)[y] for row, one, y in zip(p, u, labels, strict=True)]
    assert sets.threshold_ == pytest.approx(slow_threshold(own, alpha), abs=1e-12)
    for row, one, inside in zip(new, v, sets.predict(new), strict=True):
        scores = slow_scores(row, one, method, **options)
        expected = [score <= sets.threshold_ or k == row.argmax() for k, score in enumerate(scores)]
        assert inside.tolist() == expected


@pytest.mark.parametrize("method", ["lac", "aps", "raps"])
def test_equal_probabilities_and_one_class_of_labels(method):
    """All scores equal: the threshold is that score; with a single class in the labels it is that class's."""
    equal = np.full((30, 4), 0.25)
    sets = ConformalSets(0.1, method, randomized=False).fit(equal, np.zeros(30, int))
    assert sets.threshold_ == pytest.approx(0.75 if method == "lac" else 0.25)
    inside = sets.predict(equal[:2])
    assert inside.all() if method == "lac" else inside.tolist() == [[True, False, False, False]] * 2


@pytest.mark.parametrize("wrong", [[[0.5, float("nan")]], [[float("inf"), 0.0]]])
def test_conformal_sets_refuse_what_is_no_number(wrong):
    with pytest.raises(ValueError, match=r"finite|NaN|probabilities"):
        ConformalSets().fit(wrong, [0])
    fitted = ConformalSets(0.5).fit([[0.9, 0.1], [0.2, 0.8]], [0, 1])
    with pytest.raises(ValueError, match=r"finite|NaN|probabilities"):
        fitted.predict(wrong)


SCORES = {
    "ties": (np.repeat([0.0, 1.0, 2.0], [3, 10, 7]), np.repeat([0.0, 1.0, 3.0], [8, 8, 4])),
    "all equal": (np.ones(20), np.ones(13)),
    "one each": (np.array([1.0]), np.array([1.0])),
    "separated": (np.arange(20.0) + 50, np.arange(30.0)),
    "the other way": (np.arange(20.0), np.arange(30.0) + 50),
    "95 % exactly": (np.arange(20.0), np.array([0.5, 1.0, 1.5])),
    "far apart": (np.array([1e300, -1e300, 1e-300]), np.array([0.0, 1e300])),
}


@pytest.mark.parametrize("name", SCORES)
def test_separation_is_that_of_scikit_learn_and_of_ranks(name):
    inside, outside = SCORES[name]
    target = np.repeat([1, 0], [len(inside), len(outside)])
    scores = np.concatenate([inside, outside])
    found = separation(inside, outside)
    assert found["auroc"] == pytest.approx(roc_auc_score(target, scores), abs=1e-12)
    pairs = mannwhitneyu(inside, outside).statistic / (len(inside) * len(outside))
    assert found["auroc"] == pytest.approx(pairs, abs=1e-12)
    false, true, _ = roc_curve(target, scores, drop_intermediate=False)
    assert found["fpr95"] == pytest.approx(false[np.argmax(true >= 0.95)], abs=1e-12)


def test_separation_of_infinite_scores():
    """Ranks need no finite numbers: the pairs are inf against inf (a tie), inf against 0, 0 against inf and 0."""
    assert separation([math.inf, 0.0], [math.inf, 0.0])["auroc"] == 0.5
    assert separation([math.inf, 1.0], [0.0, -math.inf]) == {"auroc": 1.0, "fpr95": 0.0}


@pytest.mark.parametrize("empty", ["inside", "outside"])
def test_an_empty_set_is_refused(empty):
    sets = {"inside": [1.0], "outside": [0.0]} | {empty: []}
    with pytest.raises(ValueError, match=r"found \[[01]\] and \[[01]\]"):
        separation(**sets)


def slow_aurc(confidence, wrong):
    """The mean over N coverages of the expected risk, ties in a random order, in plain loops."""
    n, total = len(confidence), 0.0
    for answers in range(1, n + 1):
        threshold = sorted(confidence, reverse=True)[answers - 1]
        above = [w for c, w in zip(confidence, wrong, strict=True) if c > threshold]
        at = [w for c, w in zip(confidence, wrong, strict=True) if c == threshold]
        total += (math.fsum(above) + (answers - len(above)) * math.fsum(at) / len(at)) / answers
    return total / n


@pytest.mark.parametrize("levels", [1, 2, 7, 1000])
def test_area_under_risk_and_coverage(levels):
    draw = np.random.default_rng(levels)
    confidence, wrong = draw.integers(0, levels, 60) / levels, draw.random(60) < 0.3
    assert aurc(confidence, wrong) == pytest.approx(slow_aurc(confidence, wrong), rel=1e-12)
    assert risk_coverage(confidence, wrong)[1][-1] == pytest.approx(wrong.mean())


@pytest.mark.parametrize("value", [0, 1])
def test_area_when_all_are_right_or_wrong(value):
    assert aurc(np.linspace(0, 1, 9), np.full(9, value)) == value


def test_scores_of_a_single_class():
    logits = np.array([[3.0], [-1e4]])
    assert max_probability(logits).tolist() == [1.0, 1.0]
    assert energy(logits).tolist() == [3.0, -1e4]


def test_neighbours_of_equal_and_missing_features():
    """Equal directions have distance 0 whatever their length; what is no number is refused, not far away."""
    score = KNearestScore(2).fit(np.tile([3.0, 4.0], (5, 1)))
    np.testing.assert_allclose(score([[6.0, 8.0], [-0.3, -0.4]]), [0, -2], atol=1e-3)
    wrong = np.array([[1.0, float("nan")], [1.0, 2.0]])
    with pytest.raises(ValueError, match="features must be finite"):
        score(wrong)
    with pytest.raises(ValueError, match="features must be finite"):
        KNearestScore(1).fit(wrong)
    with pytest.raises(ValueError, match="not fitted yet"):
        KNearestScore(1)(wrong[1:])
    with pytest.raises(ValueError, match=r"\[N, 2\], found \[1, 3\]"):
        score([[1.0, 2.0, 3.0]])
