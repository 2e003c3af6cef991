"""Calibration errors from bins: of the confidence, of all classes, debiased."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from evaluation import (
    CalibrationError,
    brier_score,
    calibration_error,
    classwise_calibration_error,
    debiased_calibration_error,
    negative_log_likelihood,
    smooth_calibration_error,
)
from reference.calibrated import binary
from reference.calibrated import sample as calibrated_sample

NORMS = ["l1", "l2", "max"]


def reference(confidences, right, n_bins, norm):
    """The definition as loops over Python floats: bin b holds b/n < confidence <= (b+1)/n, the first bin also 0."""
    gaps = []
    for b in range(n_bins):
        low, high = b / n_bins, (b + 1) / n_bins
        inside = [i for i, c in enumerate(confidences) if low < c <= high or (b == 0 and c == 0)]
        if inside:
            confidence = math.fsum(confidences[i] for i in inside) / len(inside)
            accuracy = sum(bool(right[i]) for i in inside) / len(inside)
            gaps.append((len(inside) / len(confidences), abs(accuracy - confidence)))
    if norm == "l1":
        return math.fsum(weight * gap for weight, gap in gaps)
    if norm == "l2":
        return math.sqrt(math.fsum(weight * gap**2 for weight, gap in gaps))
    return max(gap for _, gap in gaps)


def reference_of(preds, target, n_bins, norm):
    """The reference for rows of probabilities, or for the probability of class 1."""
    rows, labels = preds.double().tolist(), target.tolist()
    if preds.ndim == 1:
        return reference(rows, labels, n_bins, norm)
    right = [row.index(max(row)) == label for row, label in zip(rows, labels, strict=True)]
    return reference([max(row) for row in rows], right, n_bins, norm)


def sample(n, classes, seed=0, scale=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (n,), generator=generator)
    return logits.to(dtype), labels


CLASSES = 5


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("n", "classes", "n_bins"), [(1, 2, 15), (7, 3, 1), (500, 10, 15), (333, 100, 20), (400, 2, 7)]
)
def test_agrees_with_the_definition(n, classes, n_bins, norm):
    logits, labels = sample(n, classes)
    preds = logits.softmax(1)
    found = calibration_error(preds, labels, n_bins=n_bins, norm=norm)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(reference_of(preds, labels, n_bins, norm), abs=1e-12)
    from_logits = calibration_error(logits, labels, n_bins=n_bins, norm=norm, from_logits=True)
    assert from_logits.item() == pytest.approx(found.item(), abs=1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("from_logits", [False, True])
def test_binary_compares_the_probability_of_class_1_with_its_share(norm, from_logits):
    logits = sample(600, 2)[0][:, 0]
    labels = sample(600, 2, seed=1)[1]
    found = calibration_error(logits if from_logits else logits.sigmoid(), labels, norm=norm, from_logits=from_logits)
    assert found.item() == pytest.approx(reference_of(logits.sigmoid(), labels, 15, norm), abs=1e-12)
    peer = binary_calibration_error(logits.sigmoid().float(), labels, n_bins=15, norm=norm)
    assert found.item() == pytest.approx(peer.item(), abs=1e-6)


def test_binary_probabilities_and_two_columns_differ():
    p, labels = torch.tensor([0.1, 0.1, 0.9, 0.9]), torch.tensor([1, 0, 1, 1])
    binary = calibration_error(p, labels, n_bins=2)
    top_label = calibration_error(torch.stack([1 - p, p], 1), labels, n_bins=2)
    assert binary.item() == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)
    assert top_label.item() == pytest.approx(0.15)  # one bin: confidence 0.9, right in 3 of 4


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n_bins", [5, 10, 15, 30])
def test_agrees_with_torchmetrics(norm, n_bins):
    logits, labels = sample(2000, 10)  # no confidence is on an edge, where its bins are closed on the left
    preds = logits.softmax(1)
    peer = multiclass_calibration_error(preds, labels, num_classes=10, n_bins=n_bins, norm=norm)
    assert calibration_error(preds, labels, n_bins=n_bins, norm=norm).item() == pytest.approx(peer.item(), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("from_logits", [False, True])
def test_short_floats_are_summed_in_float64(dtype, from_logits):
    logits, labels = sample(5000, 10, dtype=dtype)
    preds = logits if from_logits else logits.float().softmax(1).to(dtype)
    found = calibration_error(preds, labels, from_logits=from_logits)
    probabilities = preds.double().softmax(1) if from_logits else preds
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(reference_of(probabilities, labels, 15, "l1"), abs=1e-12)


def test_calibrated_predictions_have_no_error():
    preds = torch.tensor([0.25] * 4 + [0.75] * 4 + [1.0, 0.0], dtype=torch.float64)
    target = torch.tensor([1, 0, 0, 0, 1, 1, 1, 0, 1, 0])
    for norm in NORMS:
        assert calibration_error(preds, target, norm=norm, n_bins=4).item() == pytest.approx(0, abs=1e-15)


@st.composite
def predictions(draw):
    n, classes = draw(st.integers(1, 40)), draw(st.integers(2, 6))
    values = st.lists(st.integers(0, 20), min_size=classes, max_size=classes)
    weights = draw(st.lists(values.filter(any), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    preds = torch.tensor(weights, dtype=torch.float64)
    return preds / preds.sum(1, keepdim=True), torch.tensor(labels)  # many ties and many values on edges


@settings(max_examples=60, deadline=None)
@given(predictions(), st.integers(1, 30), st.sampled_from(NORMS), st.randoms(use_true_random=False))
def test_properties(data, n_bins, norm, random):
    preds, labels = data
    found = calibration_error(preds, labels, n_bins=n_bins, norm=norm).item()
    assert found == pytest.approx(reference_of(preds, labels, n_bins, norm), abs=1e-12)
    assert 0 <= found <= 1
    order = list(range(len(labels)))
    random.shuffle(order)
    assert calibration_error(preds[order], labels[order], n_bins=n_bins, norm=norm).item() == pytest.approx(found)
    by_norm = [calibration_error(preds, labels, n_bins=n_bins, norm=name).item() for name in NORMS]
    assert by_norm[0] <= by_norm[1] + 1e-12 <= by_norm[2] + 2e-12
    cut = random.randint(0, len(labels))
    parts = [(preds[:cut], labels[:cut]), (preds[cut:], labels[cut:])]
    metric = CalibrationError(n_bins=n_bins, norm=norm)
    for part in parts:
        if len(part[1]):
            metric.update(*part)
    assert metric.compute().item() == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_classwise_error_is_the_mean_of_binary_ones(norm, strategy):
    logits, labels = calibrated_sample(sharpness=2.0)
    p = logits.softmax(1)
    options = {"n_bins": 10, "norm": norm, "strategy": strategy}
    by_class = [calibration_error(p[:, k], (labels == k).long(), **options).item() for k in range(CLASSES)]
    found = classwise_calibration_error(p, labels, **options)
    assert found.item() == pytest.approx(np.mean(by_class), abs=1e-12)
    found = classwise_calibration_error(logits.numpy(), labels.numpy(), from_logits=True, **options)
    assert found == pytest.approx(np.mean(by_class), abs=1e-12)


def test_classwise_error_needs_columns():
    with pytest.raises(ValueError, match=r"needs a column for each class \[N, K\], found \[2\]"):
        classwise_calibration_error([0.5, 0.5], [0, 1])


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_debiased_error_agrees_with_the_definition(strategy):
    p, labels = binary(500, sharpness=2.0)
    bins = torch.ceil(p * 10).long() - 1 if strategy == "uniform" else p.argsort().argsort() // 50
    square = 0.0
    for b in range(10):
        inside = bins == b
        n, share = int(inside.sum()), labels[inside].double().mean().item()
        if n > 1:
            square += n / 500 * ((p[inside].mean().item() - share) ** 2 - share * (1 - share) / (n - 1))
    options = {"n_bins": 10, "strategy": strategy}
    assert debiased_calibration_error(p, labels, squared=True, **options).item() == pytest.approx(square, abs=1e-12)
    assert debiased_calibration_error(p, labels, **options).item() == pytest.approx(math.sqrt(square), abs=1e-12)


def test_debiased_square_of_a_calibrated_classifier_is_zero_on_average():
    squares, plain = [], []
    for seed in range(200):
        p, labels = binary(300, seed=seed)
        squares.append(debiased_calibration_error(p, labels, squared=True).item())
        plain.append(calibration_error(p, labels, norm="l2", strategy="quantile").item() ** 2)
    error = np.std(squares) / math.sqrt(len(squares))
    assert abs(np.mean(squares)) < 4 * error
    assert np.mean(plain) > 20 * error  # the bias that is subtracted
    p, labels = binary(200_000, seed=1)
    assert debiased_calibration_error(p, labels).item() < 0.005


def test_bins_with_one_sample_add_nothing_to_the_debiased_error():
    assert debiased_calibration_error([0.1, 0.9], [1, 0], n_bins=2) == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(0, 1000), st.randoms())
def test_the_order_of_samples_changes_nothing(n, seed, random):
    logits, labels = calibrated_sample(n, seed=seed)
    order = list(range(n))
    random.shuffle(order)
    functions = (classwise_calibration_error, debiased_calibration_error, smooth_calibration_error, brier_score)
    for function in (*functions, negative_log_likelihood):
        values = [function(logits[i], labels[i], from_logits=True).item() for i in (list(range(n)), order)]
        assert values[0] == pytest.approx(values[1], abs=1e-9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu():
    logits, labels = calibrated_sample(5000)
    functions = (classwise_calibration_error, debiased_calibration_error, smooth_calibration_error, brier_score)
    for function in (*functions, negative_log_likelihood, calibration_error):
        found = function(logits.cuda(), labels.cuda(), from_logits=True)
        assert found.is_cuda
        assert found.item() == pytest.approx(function(logits, labels, from_logits=True).item(), abs=1e-9)
