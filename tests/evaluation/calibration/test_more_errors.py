"""Equal-mass bins, class-wise, debiased and smooth calibration error, proper scores, intervals, and their metrics."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss
from torch.nn.functional import one_hot

from evaluation import (
    BrierScore,
    ClasswiseCalibrationError,
    NegativeLogLikelihood,
    bootstrap_interval,
    brier_decomposition,
    brier_score,
    calibration_error,
    classwise_calibration_error,
    debiased_calibration_error,
    negative_log_likelihood,
    smooth_calibration_error,
)

CLASSES = 5


def sample(n=600, classes=CLASSES, seed=0, sharpness=1.0):
    """Logits of a classifier that is calibrated for ``sharpness=1`` and overconfident above."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    return sharpness * logits, labels


def binary(n=600, seed=0, sharpness=1.0):
    logits, labels = sample(n, 2, seed, sharpness)
    return (logits[:, 1] - logits[:, 0]).sigmoid(), labels


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


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_classwise_error_is_the_mean_of_binary_ones(norm, strategy):
    logits, labels = sample(sharpness=2.0)
    p = logits.softmax(1)
    options = {"n_bins": 10, "norm": norm, "strategy": strategy}
    by_class = [calibration_error(p[:, k], (labels == k).long(), **options).item() for k in range(CLASSES)]
    found = classwise_calibration_error(p, labels, **options)
    assert found.item() == pytest.approx(np.mean(by_class), abs=1e-12)
    found = classwise_calibration_error(logits.numpy(), labels.numpy(), from_logits=True, **options)
    assert found == pytest.approx(np.mean(by_class), abs=1e-12)


def test_classwise_error_needs_columns():
    with pytest.raises(ValueError, match=r"needs a column for each class \[N, K\], got \[2\]"):
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
    assert np.mean(plain) > 20 * error  # what is taken off
    p, labels = binary(200_000, seed=1)
    assert debiased_calibration_error(p, labels).item() < 0.005


def test_bins_with_one_sample_add_nothing_to_the_debiased_error():
    assert debiased_calibration_error([0.1, 0.9], [1, 0], n_bins=2) == 0


def smooth_at(width, confidence, residual, cells=4000):
    """The smoothed residuals' integral by sums over images of the kernel, mirrored at 0 and 1."""
    t = (np.arange(cells) + 0.5)[:, None] / cells
    total = np.zeros((cells, len(confidence)))
    for shift in range(-4, 5):
        for image in (confidence + 2 * shift, -confidence + 2 * shift):
            total += np.exp(-0.5 * ((t - image) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    return np.abs(total @ residual / len(residual)).mean()


@pytest.mark.parametrize(("n", "sharpness"), [(40, 1.0), (200, 3.0)])
def test_smooth_error_is_the_fixed_point(n, sharpness):
    p, labels = binary(n, sharpness=sharpness)
    found = smooth_calibration_error(p, labels).item()
    confidence = p.numpy()
    assert 0 < found < 1
    assert smooth_at(found, confidence, labels.numpy() - confidence) == pytest.approx(found, rel=1e-3)


def test_smooth_error_agrees_with_relplot():
    relplot = pytest.importorskip("relplot")
    for seed, sharpness in ((0, 1.0), (1, 2.0), (2, 0.4)):
        p, labels = binary(3000, seed, sharpness)
        peer = relplot.smECE(p.numpy(), labels.double().numpy())
        assert smooth_calibration_error(p, labels).item() == pytest.approx(peer, rel=0.05)  # its grid is coarser


def test_smooth_error_of_few_values():
    assert smooth_calibration_error([0.0, 1.0, 1.0], [0, 1, 1]) == 0
    assert smooth_calibration_error([0.5, 0.5], [0, 1]) == 0  # residuals that cancel
    assert smooth_calibration_error([1.0, 1.0], [0, 0]) == pytest.approx(1.0, rel=1e-3)
    assert smooth_calibration_error([0.3] * 10, [1] * 10) == pytest.approx(0.7, rel=1e-3)
    logits, labels = sample(300)
    assert smooth_calibration_error(logits.float(), labels, from_logits=True).dtype == torch.float64


def test_smooth_error_of_a_large_calibrated_sample_is_resolved():
    p, labels = binary(300_000)
    assert 0 < smooth_calibration_error(p, labels).item() < 0.005


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


def test_logits_lose_nothing_and_a_probability_of_zero_costs_infinity():
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


def test_intervals_hold_the_true_value_as_often_as_they_say():
    truth = negative_log_likelihood(*sample(400_000, 3, seed=99), from_logits=True).item()
    held = 0
    for seed in range(60):
        logits, labels = sample(200, 3, seed=seed)
        options = {"from_logits": True, "replicates": 60, "level": 0.9, "seed": seed}
        low, high = bootstrap_interval(negative_log_likelihood, logits, labels, **options)
        held += low <= truth <= high
    assert 45 <= held <= 59  # 54 expected, standard deviation 2.3


def test_intervals_are_repeatable_and_pass_options_on():
    p, labels = binary(sharpness=3.0)
    options = {"n_bins": 5, "norm": "l2", "replicates": 50}
    low, high = bootstrap_interval(calibration_error, p, labels, **options)
    assert (low, high) == bootstrap_interval(calibration_error, p, labels, **options)
    assert (low, high) != bootstrap_interval(calibration_error, p, labels, seed=1, **options)
    assert 0 < low < calibration_error(p, labels, n_bins=5, norm="l2").item() < high
    assert bootstrap_interval(calibration_error, [1.0, 0.0] * 3, [1, 0] * 3, replicates=5) == (0.0, 0.0)


@pytest.mark.parametrize(("option", "words"), [({"level": 1.0}, "level"), ({"replicates": 1}, "replicates")])
def test_intervals_refuse_bad_options(option, words):
    with pytest.raises(ValueError, match=words):
        bootstrap_interval(brier_score, [0.5], [1], **option)


METRICS = [
    (lambda: ClasswiseCalibrationError(CLASSES, n_bins=9, norm="l2", from_logits=True), classwise_calibration_error),
    (lambda: BrierScore(from_logits=True), brier_score),
    (lambda: NegativeLogLikelihood(from_logits=True), negative_log_likelihood),
]


@pytest.mark.parametrize(("make", "function"), METRICS)
def test_metrics_equal_the_functions_and_hold_sums(make, function):
    logits, labels = sample(500)
    metric, other = make(), make()
    for begin in range(0, 500, 90):
        (metric if begin % 180 else other).update(logits[begin : begin + 90], labels[begin : begin + 90])
    assert metric.sums.numel() <= 3 * CLASSES * 9
    metric.sums = metric.sums + other.sums  # what a reduction over processes does
    options = {"n_bins": 9, "norm": "l2"} if function is classwise_calibration_error else {}
    expected = function(logits, labels, from_logits=True, **options)
    assert metric.compute().item() == pytest.approx(expected.item(), abs=1e-12)
    assert metric.half().sums.dtype == torch.float64
    metric.reset()
    with pytest.raises(ValueError, match="no sample"), pytest.warns(UserWarning, match="before the ``update``"):
        metric.compute()


def test_classwise_metric_refuses_other_classes():
    with pytest.raises(ValueError, match="must have 4 columns"):
        ClasswiseCalibrationError(4).update(torch.full((1, 2), 0.5), torch.tensor([0]))
    with pytest.raises(ValueError, match="num_classes must be an integer of at least 2, got 1"):
        ClasswiseCalibrationError(1)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_share_the_pieces(threads):
    logits, labels = sample(200_000, sharpness=2.0)  # 31 pieces
    torch.set_num_threads(threads)
    p = logits.softmax(1)
    expected = (p - one_hot(labels, CLASSES)).square().sum(1).mean().item()
    assert brier_score(p, labels).item() == pytest.approx(expected)
    confidence, right = p.amax(1), (p.argmax(1) == labels).double()
    bins = (confidence * 15).ceil().long()
    gaps = torch.zeros(16, dtype=torch.float64).index_add_(0, bins, confidence - right)
    found = calibration_error(logits, labels, from_logits=True).item()
    assert found == pytest.approx((gaps.abs().sum() / 200_000).item(), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(0, 1000), st.randoms())
def test_the_order_of_samples_changes_nothing(n, seed, random):
    logits, labels = sample(n, seed=seed)
    order = list(range(n))
    random.shuffle(order)
    functions = (classwise_calibration_error, debiased_calibration_error, smooth_calibration_error, brier_score)
    for function in (*functions, negative_log_likelihood):
        values = [function(logits[i], labels[i], from_logits=True).item() for i in (list(range(n)), order)]
        assert values[0] == pytest.approx(values[1], abs=1e-9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu():
    logits, labels = sample(5000)
    functions = (classwise_calibration_error, debiased_calibration_error, smooth_calibration_error, brier_score)
    for function in (*functions, negative_log_likelihood, calibration_error):
        found = function(logits.cuda(), labels.cuda(), from_logits=True)
        assert found.is_cuda
        assert found.item() == pytest.approx(function(logits, labels, from_logits=True).item(), abs=1e-9)
