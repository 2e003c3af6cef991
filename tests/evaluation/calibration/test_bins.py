"""Bins of equal width and of equal mass: which value is in which bin, and the sums of a bin."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from evaluation import calibration_error
from evaluation.calibration.bins import bin_sums, inner_edges
from evaluation.calibration.inputs import Predictions
from reference.calibrated import binary, sample


def sums_of(preds, target, n_bins):
    return bin_sums(Predictions(preds, target, from_logits=False), n_bins)


def bin_of(values, n_bins):
    """The bin in which the public sums place each value, one at a time."""
    return [int(sums_of(v[None], torch.zeros(1, dtype=torch.long), n_bins)[0].argmax()) for v in values]


@pytest.mark.parametrize("n_bins", [*range(1, 31), 47, 49, 64, 98, 100, 103, 1000])
def test_float64_edges_are_the_numbers_that_python_writes(n_bins):
    for k in {1, 2, n_bins // 3, n_bins // 2, n_bins - 1, n_bins} - {0, n_bins + 1}:
        edge = k / n_bins
        above = math.nextafter(edge, 2.0)
        values = torch.tensor([edge, math.nextafter(edge, 0.0), above], dtype=torch.float64)
        assert bin_of(values[:2], n_bins) == [k - 1, k - 1]
        assert k == n_bins or bin_of(values[2:], n_bins) == [k]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("n_bins", [1, 2, 3, 5, 7, 10, 11, 13, 15, 20, 29, 30, 49, 64, 98, 100, 103, 257])
def test_short_floats_are_in_the_bin_of_their_exact_value(n_bins, dtype):
    edges = torch.tensor([k / n_bins for k in range(n_bins + 1)], dtype=torch.float64).to(dtype)
    eps = torch.finfo(dtype).eps
    values = torch.cat([edges, edges * (1 - eps), edges * (1 + eps)]).clamp(0, 1)
    exact = [max(0, math.ceil(Fraction(v) * n_bins) - 1) for v in values.double().tolist()]  # rational arithmetic
    found = torch.stack([sums_of(v[None], torch.zeros(1, dtype=torch.long), n_bins)[0] for v in values])
    assert found.argmax(1).tolist() == exact
    wide = values.double().tolist()
    assert found.sum(0).tolist() == [exact.count(b) for b in range(n_bins)]
    assert bin_of(torch.tensor(wide, dtype=torch.float64), n_bins) == exact  # no bin changes in float64


def test_edges_are_never_above_the_fraction():
    for n_bins in range(2, 200):
        edges = inner_edges(n_bins, torch.float32)
        assert edges.dtype == torch.float32
        assert all(Fraction(edge) <= Fraction(k, n_bins) for k, edge in enumerate(edges.tolist(), start=1))


def test_zero_and_one_are_in_the_first_and_the_last_bin():
    values = torch.tensor([0.0, 1.0])
    sums = sums_of(values, torch.tensor([0, 1]), 10)
    assert sums[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert calibration_error(values, torch.tensor([0, 1])).item() == 0


def test_long_inputs_are_split_into_chunks():
    logits, labels = sample(100_000, 10)  # several chunks
    preds = logits.softmax(1)
    parts = [sums_of(preds[a : a + 997], labels[a : a + 997], 15) for a in range(0, 100_000, 997)]
    torch.testing.assert_close(sums_of(preds, labels, 15), torch.stack(parts).sum(0), rtol=1e-12, atol=0)


def equal_mass_reference(confidence, right, n_bins, norm="l1"):
    """Bins between the k/n-quantiles (smallest value that k/n of the samples do not exceed), as loops."""
    ordered, n = sorted(confidence), len(confidence)
    edges = [ordered[math.ceil(k * n / n_bins) - 1] for k in range(1, n_bins)]
    bins = [[] for _ in range(n_bins)]
    for c, r in zip(confidence, right, strict=True):
        bins[sum(edge < c for edge in edges)].append((c, r))
    gaps = [(len(b), abs(math.fsum(c - r for c, r in b)) / len(b)) for b in bins if b]
    if norm == "max":
        return max(gap for _, gap in gaps)
    total = math.fsum(size / n * gap ** (1 if norm == "l1" else 2) for size, gap in gaps)
    return total if norm == "l1" else math.sqrt(total)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize(("n", "n_bins"), [(600, 15), (601, 15), (7, 3), (3, 10), (1, 4)])
def test_equal_mass_bins(n, n_bins, norm):
    logits, labels = sample(n, sharpness=2.0)
    p = logits.softmax(1)
    right = (p.argmax(1) == labels).tolist()
    found = calibration_error(p, labels, n_bins=n_bins, norm=norm, strategy="quantile").item()
    assert found == pytest.approx(equal_mass_reference(p.amax(1).tolist(), right, n_bins, norm), abs=1e-12)
    from_logits = calibration_error(logits, labels, n_bins=n_bins, norm=norm, strategy="quantile", from_logits=True)
    assert from_logits.item() == pytest.approx(found, abs=1e-12)


def test_equal_mass_bins_are_those_of_scikit_learn():
    p, labels = binary(600, sharpness=2.0)
    share, confidence = calibration_curve(labels.numpy(), p.numpy(), n_bins=15, strategy="quantile")
    expected = np.abs(share - confidence).mean()  # 40 samples in each bin
    assert calibration_error(p, labels, strategy="quantile").item() == pytest.approx(expected, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30), st.integers(1, 8), st.randoms())
def test_equal_mass_bins_with_ties(pairs, n_bins, random):
    def error(pairs):
        p = torch.tensor([value / 6 for value, _ in pairs], dtype=torch.float64)
        return calibration_error(p, torch.tensor([right for _, right in pairs]), n_bins=n_bins, strategy="quantile")

    expected = equal_mass_reference([value / 6 for value, _ in pairs], [right for _, right in pairs], n_bins)
    assert error(pairs).item() == pytest.approx(expected, abs=1e-12)
    random.shuffle(pairs)
    assert error(pairs).item() == pytest.approx(expected, abs=1e-12)
