"""Risk and coverage against loops over all orders of ties."""

import itertools

import numpy as np
import pytest
import torch

from evaluation.uncertainty import aurc, risk_coverage


def test_curve_is_the_mean_over_the_orders_of_ties():
    confidence, wrong = [0.9, 0.5, 0.5, 0.5, 0.1], [0, 1, 0, 1, 1]
    curves = []
    for order in itertools.permutations([1, 2, 3]):
        losses = np.array([wrong[i] for i in (0, *order, 4)])
        curves.append(losses.cumsum() / np.arange(1, 6))
    coverage, risk = risk_coverage(confidence, wrong)
    np.testing.assert_allclose(risk, np.mean(curves, axis=0), rtol=1e-12)
    np.testing.assert_allclose(coverage, np.arange(1, 6) / 5)
    assert aurc(confidence, wrong) == pytest.approx(np.mean(curves))


def test_order_does_not_matter_and_a_confidence_of_nothing_gives_the_mean():
    rng = np.random.default_rng(0)
    confidence, loss = rng.integers(0, 20, 500) / 20, rng.random(500)
    order = rng.permutation(500)
    assert aurc(confidence[order], loss[order]) == pytest.approx(aurc(confidence, loss), rel=1e-12)
    assert aurc(np.ones(500), loss) == pytest.approx(loss.mean())


def test_tensors_and_infinite_confidence():
    coverage, risk = risk_coverage(torch.tensor([float("inf"), 1.0], dtype=torch.float16), torch.tensor([True, False]))
    assert isinstance(coverage, torch.Tensor)
    assert risk.tolist() == [1.0, 0.5]
    assert risk.dtype == torch.float64


@pytest.mark.parametrize(
    ("confidence", "wrong", "message"),
    [
        ([], [], "N at least 1"),
        ([0.5], [1, 0], r"found \[1\] and \[2\]"),
        ([[0.5]], [[1]], r"found \[1, 1\]"),
        ([float("nan")], [1], "found NaN"),
    ],
)
def test_bad_inputs(confidence, wrong, message):
    with pytest.raises(ValueError, match=message):
        aurc(np.array(confidence, dtype=float), np.array(wrong, dtype=float))
