"""Conformal sets against loops written from the papers, and their promise on many draws."""

import math
import re

import numpy as np
import pytest
import torch

from evaluation.uncertainty import ConformalSets


def drawn(n, classes=6, seed=0):
    """Probabilities that are right: labels are drawn from them."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes, 0.4), n)
    return p, np.array([rng.choice(classes, p=row) for row in p])


def slow_score(p, label, method, penalty, rank):
    order = sorted(range(len(p)), key=lambda k: (-p[k], k))
    place = order.index(label)
    if method == "lac":
        return 1 - p[label]
    return sum(p[k] for k in order[: place + 1]) + (penalty * max(0, place + 1 - rank) if method == "raps" else 0)


@pytest.mark.parametrize("method", ["lac", "aps", "raps"])
def test_threshold_and_sets_are_those_of_a_loop(method):
    p, labels = drawn(157)
    new, _ = drawn(40, seed=1)
    options = {"penalty": 0.05, "rank": 2}
    sets = ConformalSets(0.2, method, randomized=False, **options).fit(p, labels)
    scores = sorted(slow_score(row, label, method, **options) for row, label in zip(p, labels, strict=True))
    assert sets.threshold_ == pytest.approx(scores[math.ceil(158 * 0.8) - 1], abs=1e-12)
    for row, inside in zip(new, sets.predict(new), strict=True):
        for k in range(6):
            expected = slow_score(row, k, method, **options) <= sets.threshold_ or k == row.argmax()
            assert inside[k] == expected


@pytest.mark.parametrize("method", ["lac", "aps", "raps"])
@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_sets_hold_the_label_as_often_as_promised(method, alpha):
    p, labels = drawn(4000, seed=2)
    shaken = torch.from_numpy(p).clamp(min=1e-9).log() * 2.5  # a network that is too sure
    held, _ = shaken.split(2000)
    sets = ConformalSets(alpha, method).fit(held, labels[:2000], from_logits=True)
    inside = sets.predict(shaken[2000:], from_logits=True)
    assert isinstance(inside, torch.Tensor)
    covered = inside.gather(1, torch.from_numpy(labels[2000:])[:, None]).double().mean().item()
    assert covered >= 1 - alpha - 0.03
    if method == "lac":
        assert covered <= 1 - alpha + 0.03


def test_randomized_sets_hold_the_label_no_more_often_than_promised():
    p, labels = drawn(8000, seed=3)
    random, fixed = (
        ConformalSets(0.3, "aps", randomized=randomized).fit(p[:4000], labels[:4000]) for randomized in (True, False)
    )
    sizes = [sets.predict(p[4000:]).sum(1).mean() for sets in (random, fixed)]
    assert sizes[0] < sizes[1]


def test_draws_continue_over_batches_and_begin_with_the_seed():
    p, labels = drawn(300)
    whole, parts, other = (ConformalSets(0.2, "aps", seed=seed).fit(p, labels) for seed in (1, 1, 2))
    expected = whole.predict(p[:100])
    np.testing.assert_array_equal(np.concatenate([parts.predict(p[:1]), parts.predict(p[1:100])]), expected)
    assert (other.predict(p[:100]) != expected).any()


def test_too_few_examples_give_every_class():
    p, labels = drawn(5)
    sets = ConformalSets(0.1).fit(p, labels)
    assert sets.threshold_ == math.inf
    assert sets.predict(p).all()


def test_binary_probabilities_and_logits():
    sets = ConformalSets(0.4).fit([0.9, 0.2, 0.7, 0.4], [1, 0, 1, 0])
    assert sets.predict([0.95, 0.5]).shape == (2, 2)
    logits = torch.tensor([0.9, 0.2, 0.7, 0.4], dtype=torch.float64).logit()
    from_logits = ConformalSets(0.4).fit(logits, [1, 0, 1, 0], from_logits=True)
    assert from_logits.threshold_ == pytest.approx(sets.threshold_, abs=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0}, "alpha must be in (0, 1), found 0"),
        ({"alpha": float("nan")}, "alpha must be in (0, 1), found nan"),
        ({"method": "thr"}, "method must be one of lac, aps, raps, found 'thr'"),
        ({"penalty": -1}, "penalty must be a finite number of at least 0, found -1"),
        ({"rank": 1.5}, "rank must be an integer of at least 0, found 1.5"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ConformalSets(**options)


def test_bad_inputs():
    with pytest.raises(ValueError, match="not fitted yet"):
        ConformalSets().predict([[0.5, 0.5]])
    with pytest.raises(ValueError, match="at least one value"):
        ConformalSets().fit(np.zeros((0, 3)), np.zeros(0, int))
    with pytest.raises(ValueError, match="3"):
        ConformalSets().fit([[0.5, 0.5]], [3])
