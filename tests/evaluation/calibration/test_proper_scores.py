"""Brier score, its decomposition, and negative log-likelihood against scikit-learn."""

import math

import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss
from torch.nn.functional import one_hot

from evaluation import brier_decomposition, brier_score, calibration_error, negative_log_likelihood
from reference.calibrated import binary, sample

CLASSES = 5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_scores_agree_with_scikit_learn(dtype):
    logits, labels = sample()
    logits = logits.to(dtype)
    p = logits.double().softmax(1)
    expected = brier_score_loss(labels, p, labels=range(CLASSES), scale_by_half=False), log_loss(labels, p)
    assert brier_score(logits, labels, from_logits=True).item() == pytest.approx(expected[0], abs=1e-12)
    assert negative_log_likelihood(logits, labels, from_logits=True).item() == pytest.approx(expected[1], abs=1e-12)
    assert brier_score(p.numpy(), labels.numpy()) == pytest.approx(expected[0], abs=1e-12)
    assert negative_log_likelihood(p.numpy(), labels.numpy()) == pytest.approx(expected[1], abs=1e-12)


def test_binary_scores():
    p, labels = binary()
    logits = p.logit()
    for preds, from_logits in ((p, False), (logits, True)):
        found = negative_log_likelihood(preds, labels, from_logits=from_logits).item()
        assert found == pytest.approx(log_loss(labels, p), abs=1e-12)
        found = brier_score(preds, labels, from_logits=from_logits).item()
        assert found == pytest.approx(brier_score_loss(labels, p), abs=1e-12)


def test_logits_lose_no_precision_and_a_probability_of_zero_costs_infinity():
    assert negative_log_likelihood([[1000.0, 0.0]], [1], from_logits=True) == pytest.approx(1000)
    assert negative_log_likelihood([-1000.0], [1], from_logits=True) == pytest.approx(1000)
    assert negative_log_likelihood([[1.0, 0.0]], [1]) == math.inf
    assert negative_log_likelihood([0.0], [0]) == 0


@pytest.mark.parametrize("n_bins", [1, 7, 15])
def test_parts_of_the_brier_score(n_bins):
    logits, labels = sample(sharpness=2.0)
    parts = brier_decomposition(logits, labels, n_bins=n_bins, from_logits=True)
    whole = parts.reliability - parts.resolution + parts.uncertainty + parts.within_bins
    assert whole == pytest.approx(brier_score(logits, labels, from_logits=True).item(), abs=1e-12)
    shares = torch.bincount(labels).double() / len(labels)
    assert parts.uncertainty == pytest.approx((shares * (1 - shares)).sum().item(), abs=1e-12)
    p = logits.softmax(1)
    squares = 0.0
    for k in range(CLASSES):
        error = calibration_error(p[:, k], (labels == k).long(), n_bins=n_bins, norm="l2").item()
        squares += error**2
    assert parts.reliability == pytest.approx(squares, abs=1e-12)


def test_resolution_of_two_values():
    parts = brier_decomposition([0.2, 0.2, 0.8, 0.8], [0, 0, 1, 0], n_bins=2)
    assert parts.within_bins == pytest.approx(0, abs=1e-15)
    assert parts.resolution == pytest.approx(0.5 * 0.25**2 * 2)
    assert parts.reliability == pytest.approx(0.5 * 0.2**2 + 0.5 * 0.3**2)


@pytest.mark.parametrize("threads", [1, 3])
def test_chunks_on_several_threads(threads):
    logits, labels = sample(200_000, sharpness=2.0)  # 4 chunks
    torch.set_num_threads(threads)
    p = logits.softmax(1)
    expected = (p - one_hot(labels, CLASSES)).square().sum(1).mean().item()
    assert brier_score(p, labels).item() == pytest.approx(expected)
    confidence, right = p.amax(1), (p.argmax(1) == labels).double()
    bins = (confidence * 15).ceil().long()
    gaps = torch.zeros(16, dtype=torch.float64).index_add_(0, bins, confidence - right)
    found = calibration_error(logits, labels, from_logits=True).item()
    assert found == pytest.approx((gaps.abs().sum() / 200_000).item(), abs=1e-12)
