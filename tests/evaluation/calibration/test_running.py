"""The metrics over batches equal the functions of all samples."""

import math

import matplotlib.pyplot as plt
import pytest
import torch
from torchmetrics import MetricCollection, MetricTracker

from evaluation import (
    BrierScore,
    CalibrationError,
    ClasswiseCalibrationError,
    NegativeLogLikelihood,
    brier_score,
    calibration_error,
    classwise_calibration_error,
    negative_log_likelihood,
)
from evaluation.calibration.bins import bin_sums
from evaluation.calibration.inputs import Predictions

NORMS = ["l1", "l2", "max"]
CLASSES = 5


def sample(n, classes, seed=0, scale=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (n,), generator=generator)
    return logits.to(dtype), labels


@pytest.mark.parametrize("options", [{"n_bins": 0}, {"norm": "l3"}])
def test_metric_refuses_bad_options_at_construction(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        CalibrationError(**options)


def test_metric_without_a_sample_is_an_error():
    with pytest.raises(ValueError, match="no sample yet"), pytest.warns(UserWarning, match="before the ``update``"):
        CalibrationError().compute()


@pytest.mark.parametrize(
    "make", [CalibrationError, BrierScore, NegativeLogLikelihood, lambda: ClasswiseCalibrationError(CLASSES)]
)
def test_an_empty_batch_adds_nothing(make):
    logits, labels = sample(20, CLASSES)
    metric, plain = make(), make()
    none = torch.zeros(0, CLASSES), torch.zeros(0, dtype=torch.int64)
    assert metric(*none).isnan()
    metric.update(logits.softmax(1), labels)
    plain.update(logits.softmax(1), labels)
    metric.update(*none)
    assert metric.compute() == plain.compute()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("from_logits", [False, True])
def test_metric_equals_the_function(norm, from_logits):
    logits, labels = sample(500, 5, dtype=torch.float32)
    preds = logits if from_logits else logits.softmax(1)
    metric = CalibrationError(n_bins=12, norm=norm, from_logits=from_logits)
    for start in range(0, 500, 77):
        metric(preds[start : start + 77], labels[start : start + 77])
    expected = calibration_error(preds, labels, n_bins=12, norm=norm, from_logits=from_logits)
    assert metric.compute().item() == pytest.approx(expected.item(), abs=1e-12)
    metric.reset()
    metric.update(preds[:77], labels[:77])
    expected = calibration_error(preds[:77], labels[:77], n_bins=12, norm=norm, from_logits=from_logits)
    assert metric.compute().item() == pytest.approx(expected.item(), abs=1e-12)


def test_metric_holds_bins_and_keeps_them_in_float64():
    owner = torch.nn.Module()
    owner.metric = CalibrationError(n_bins=10)
    owner.metric.update(torch.tensor([0.3, 0.9]), torch.tensor([0, 1]))
    owner.to(torch.bfloat16).half()
    assert owner.metric.sums.dtype == torch.float64
    assert owner.metric.sums.shape == (3, 10)
    assert owner.metric.sums[0].sum() == 2
    owner.metric.reset()
    assert owner.metric.sums.dtype == torch.float64


METRICS = [
    (lambda: ClasswiseCalibrationError(CLASSES, n_bins=9, norm="l2", from_logits=True), classwise_calibration_error),
    (lambda: BrierScore(from_logits=True), brier_score),
    (lambda: NegativeLogLikelihood(from_logits=True), negative_log_likelihood),
]


@pytest.mark.parametrize(("make", "function"), METRICS)
def test_metrics_equal_the_functions_and_hold_sums(make, function):
    logits, labels = sample(500, CLASSES)
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
    with pytest.raises(ValueError, match="no sample yet"), pytest.warns(UserWarning, match="before the ``update``"):
        metric.compute()


def test_classwise_metric_refuses_other_classes():
    with pytest.raises(ValueError, match=r"must have 4 columns .* found 2"):
        ClasswiseCalibrationError(4).update(torch.full((1, 2), 0.5), torch.tensor([0]))
    with pytest.raises(ValueError, match="num_classes must be an integer of at least 2, found 1"):
        ClasswiseCalibrationError(1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("deterministic", [False, True])
def test_on_a_gpu(dtype, deterministic):
    logits, labels = sample(20_000, 10, dtype=dtype)
    expected = calibration_error(logits, labels, from_logits=True)
    torch.use_deterministic_algorithms(deterministic)
    try:
        found = calibration_error(logits.cuda(), labels, from_logits=True)
    finally:
        torch.use_deterministic_algorithms(False)
    assert found.device.type == "cuda"
    assert found.item() == pytest.approx(expected.item(), abs=1e-9)
    metric = CalibrationError(from_logits=True).cuda()
    metric.update(logits.cuda(), labels.cuda())
    assert metric.compute().item() == pytest.approx(expected.item(), abs=1e-9)
    nan = bin_sums(Predictions(torch.full((3, 2), math.nan).cuda(), torch.zeros(3).long().cuda(), True), 5)
    assert nan[1].isnan().any()


def test_collections_groups_and_plots():
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(40, 4, generator=generator).softmax(1)
    labels = torch.randint(4, (40,), generator=generator)
    metrics = {
        "l1": CalibrationError(),
        "l2": CalibrationError(norm="l2"),
        "five": CalibrationError(n_bins=5),
        "classwise": ClasswiseCalibrationError(4),
        "brier": BrierScore(),
        "nll": NegativeLogLikelihood(),
    }
    grouped = MetricCollection({name: metric.clone() for name, metric in metrics.items()})
    for start in range(0, 40, 10):
        for each in (grouped, *metrics.values()):
            each.update(probabilities[start : start + 10], labels[start : start + 10])
    assert ["l1", "l2"] in grouped.compute_groups.values()  # they share their sums
    assert len(grouped.compute_groups) == 5
    values = grouped.compute()
    for name, metric in metrics.items():
        assert torch.equal(values[name], metric.compute())
        figure, axes = metric.plot()
        assert axes.get_ylim()[0] <= 0
        metric.plot([metric.compute(), values["l1"]], ax=axes)
        plt.close(figure)
    for figure, _ in grouped.plot():
        plt.close(figure)
    tracker = MetricTracker(CalibrationError(), maximize=False)
    for _ in range(2):
        tracker.increment()
        tracker.update(probabilities, labels)
    plt.close(tracker.plot()[0])
