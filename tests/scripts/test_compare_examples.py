"""McNemar's test, the paired bootstrap and the ensemble against scipy, scikit-learn and definitions in float64."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from sklearn.metrics import log_loss

from _compare import examples as ours
from _compare import statistics as over_seeds
from _train.kept_predictions import KeepPredictions

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 4, 400)
LOGITS = RANDOM.normal(0, 1, (3, 400, 4)) + 1.5 * np.eye(4)[LABELS]


def predictions(logits, labels=LABELS):
    return ours.Predictions(labels, logits.argmax(1), special.log_softmax(logits, 1))


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 2), (2, 2)])
def test_mcnemar_is_the_sum_of_the_binomial_distribution(first, second):
    one, two = predictions(LOGITS[first]).correct, predictions(LOGITS[second]).correct
    b, c = int(sum(one & ~two)), int(sum(two & ~one))
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    test = ours.mcnemar(one, two)
    assert (test["only_first"], test["only_other"]) == (b, c)
    assert test["p"] == pytest.approx(min(1.0, 2 * tail))


def test_the_bootstrap_of_a_mean_is_scipys():
    values = RANDOM.choice([-1.0, -0.5, 0.0, 0.5], 300)
    reference = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=1)
    interval = reference.confidence_interval
    assert ours.bootstrap_mean(values) == pytest.approx((interval.low, interval.high), abs=0.006)
    assert ours.bootstrap_mean(values) == ours.bootstrap_mean(values)
    assert ours.bootstrap_mean(np.full(5, 0.25)) == (0.25, 0.25)


def test_examples_are_compared_by_seed():
    runs = {seed: predictions(LOGITS[seed]) for seed in (0, 1)}
    baseline = {1: predictions(LOGITS[2]), 0: predictions(LOGITS[2]), 7: predictions(LOGITS[0])}
    found = ours.compare_examples(runs, baseline)
    assert found["seeds"] == [0, 1]
    accuracy = [(LOGITS[place].argmax(1) == LABELS).mean() for place in range(3)]
    assert found["difference"] == pytest.approx((accuracy[0] + accuracy[1]) / 2 - accuracy[2])
    assert found["low"] < found["difference"] < found["high"]
    assert found["mcnemar"]["1"] == ours.mcnemar(runs[1].correct, baseline[1].correct)
    assert ours.compare_examples(runs, {5: baseline[1]}) is None


def test_seeds_with_other_test_examples_are_not_pooled():
    other = predictions(LOGITS[1][::-1], LABELS[::-1])
    runs = {0: predictions(LOGITS[0]), 1: other}
    found = ours.compare_examples(runs, runs)
    assert found["difference"] is None
    assert set(found["mcnemar"]) == {"0", "1"}
    assert ours.ensemble([runs[0], other]) is None
    assert ours.compare_examples({0: runs[0]}, {0: other}) is None


def test_the_ensemble_averages_probabilities():
    mean = special.softmax(LOGITS, 2).mean(0)
    found = ours.ensemble([predictions(logits) for logits in LOGITS])
    assert found["accuracy"] == pytest.approx((mean.argmax(1) == LABELS).mean())
    assert found["nll"] == pytest.approx(log_loss(LABELS, mean))
    bins = np.ceil(mean.max(1) * 15)
    gaps = [(bins == b).mean() * abs((mean.argmax(1) == LABELS)[bins == b].mean() - mean.max(1)[bins == b].mean())
            for b in np.unique(bins)]  # fmt: skip
    assert found["ece"] == pytest.approx(sum(gaps))
    assert ours.ensemble([predictions(LOGITS[0])]) is None


class _Trainer:
    world_size = 1


@pytest.mark.parametrize(("classes", "bytes_each"), [(10, 1), (300, 2)])
def test_predictions_are_kept_in_few_bytes_and_to_three_digits(tmp_path, classes, bytes_each):
    logits = torch.from_numpy(RANDOM.normal(0, 30, (50, classes))).float()
    labels = torch.from_numpy(RANDOM.integers(0, classes, 50))
    keeper = KeepPredictions(tmp_path / "predictions.npz")
    keeper.on_test_start(_Trainer(), None)
    for part in (slice(0, 32), slice(32, 50)):
        keeper.on_test_batch_end(_Trainer(), None, {"logits": logits[part], "labels": labels[part]}, None, 0)
    keeper.on_test_end(_Trainer(), None)
    kept = ours.read_predictions(tmp_path)
    assert kept.labels.tolist() == labels.tolist()
    assert kept.labels.itemsize == bytes_each
    assert kept.predicted.tolist() == logits.argmax(1).tolist()
    assert kept.log_probabilities == pytest.approx(logits.double().log_softmax(1).numpy(), rel=1e-3, abs=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.npz"]
    assert ours.read_predictions(tmp_path / "elsewhere") is None


def test_intervals_end_where_the_metric_does():
    cut = over_seeds.summarize([0.99, 1.0, 0.97], over_seeds.limits("test/accuracy"))
    low, high = stats.t.interval(0.95, 2, cut["mean"], stats.sem([0.99, 1.0, 0.97]))
    assert high > 1
    assert (cut["low"], cut["high"]) == (pytest.approx(low), 1.0)
    assert over_seeds.summarize([0.0, 0.1], over_seeds.limits("test/nll"))["low"] == 0
    assert over_seeds.summarize([0.0, 0.1], over_seeds.limits("train/examples_per_second"))["low"] < 0
    test = over_seeds.paired_test({0: 1.0, 1: 0.9}, {0: 0.0, 1: 0.8}, over_seeds.limits("test/accuracy"))
    assert (test["low"], test["high"]) == (-1, 1)


def test_ties_are_named_in_the_line():
    scores = {"A": {0: 0.5, 1: 0.6}, "B": {0: 0.5, 1: 0.6}, "C": {0: 0.5, 1: 0.7}}
    tests = over_seeds.against_baseline(scores, "A")
    three = {name: {**by_seed, 2: 0.9} for name, by_seed in scores.items()}
    assert over_seeds.ties(over_seeds.against_baseline(three, "A"), "A") == " The same as A with every seed: B."
    assert over_seeds.ties(tests, "A") == ""  # too few seeds
