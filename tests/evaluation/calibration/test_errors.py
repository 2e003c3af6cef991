import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from evaluation import CalibrationError, calibration_error
from evaluation.calibration.bins import bin_sums, inner_edges

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


def test_binary_probabilities_and_two_columns_are_different_things():
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


def bin_of(values, n_bins):
    """The bin in which the public sums place each value, one at a time."""
    return [int(bin_sums(v[None], torch.zeros(1, dtype=torch.long), n_bins, False)[0].argmax()) for v in values]


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
def test_short_floats_lie_where_the_number_that_they_are_lies(n_bins, dtype):
    edges = torch.tensor([k / n_bins for k in range(n_bins + 1)], dtype=torch.float64).to(dtype)
    eps = torch.finfo(dtype).eps
    values = torch.cat([edges, edges * (1 - eps), edges * (1 + eps)]).clamp(0, 1)
    exact = [max(0, math.ceil(Fraction(v) * n_bins) - 1) for v in values.double().tolist()]  # rational arithmetic
    found = torch.stack([bin_sums(v[None], torch.zeros(1, dtype=torch.long), n_bins, False)[0] for v in values])
    assert found.argmax(1).tolist() == exact
    wide = values.double().tolist()
    assert found.sum(0).tolist() == [exact.count(b) for b in range(n_bins)]
    assert bin_of(torch.tensor(wide, dtype=torch.float64), n_bins) == exact  # no bin changes in float64


def test_edges_are_never_above_the_fraction():
    for n_bins in range(2, 200):
        edges = inner_edges(n_bins, torch.float32)
        assert edges.dtype == torch.float32
        assert all(Fraction(edge) <= Fraction(k, n_bins) for k, edge in enumerate(edges.tolist(), start=1))


def test_zero_and_one_lie_in_the_first_and_the_last_bin():
    values = torch.tensor([0.0, 1.0])
    sums = bin_sums(values, torch.tensor([0, 1]), 10, False)
    assert sums[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert calibration_error(values, torch.tensor([0, 1])).item() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("from_logits", [False, True])
def test_short_floats_are_summed_in_float64(dtype, from_logits):
    logits, labels = sample(5000, 10, dtype=dtype)
    preds = logits if from_logits else logits.float().softmax(1).to(dtype)
    found = calibration_error(preds, labels, from_logits=from_logits)
    probabilities = preds.double().softmax(1) if from_logits else preds
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(reference_of(probabilities, labels, 15, "l1"), abs=1e-12)


def test_long_inputs_are_taken_in_pieces():
    logits, labels = sample(40_000, 10)  # several chunks
    preds = logits.softmax(1)
    parts = [bin_sums(preds[a : a + 997], labels[a : a + 997], 15, False) for a in range(0, 40_000, 997)]
    torch.testing.assert_close(bin_sums(preds, labels, 15, False), torch.stack(parts).sum(0), rtol=1e-12, atol=0)


def test_numpy_gives_a_float():
    logits, labels = sample(300, 4)
    preds = logits.softmax(1)
    found = calibration_error(preds.numpy(), labels.numpy())
    assert type(found) is float
    assert found == calibration_error(preds, labels).item()
    frozen = preds.numpy().astype(np.float32)[::-1]
    frozen.flags.writeable = False
    assert calibration_error(frozen, labels.numpy()[::-1].astype(np.uint8)) == pytest.approx(found, abs=1e-6)
    assert calibration_error(preds.tolist(), labels.tolist()) == found


def test_calibrated_predictions_have_no_error():
    preds = torch.tensor([0.25] * 4 + [0.75] * 4 + [1.0, 0.0], dtype=torch.float64)
    target = torch.tensor([1, 0, 0, 0, 1, 1, 1, 0, 1, 0])
    for norm in NORMS:
        assert calibration_error(preds, target, norm=norm, n_bins=4).item() == pytest.approx(0, abs=1e-15)


def test_minus_infinity_is_a_logit_of_a_class_ruled_out():
    logits = torch.tensor([[2.0, -math.inf, 1.0], [0.0, 3.0, -math.inf]])
    labels = torch.tensor([0, 1])
    expected = calibration_error(logits.double().softmax(1), labels)
    assert calibration_error(logits, labels, from_logits=True).item() == pytest.approx(expected.item(), abs=1e-15)


def test_gradients_and_inference_mode_do_not_matter():
    logits, labels = sample(50, 3)
    expected = calibration_error(logits, labels, from_logits=True)
    found = calibration_error(logits.clone().requires_grad_(), labels, from_logits=True)
    assert found == expected
    assert not found.requires_grad
    metric = CalibrationError(from_logits=True)
    with torch.inference_mode():
        metric.reset()
        metric.update(logits[:20], labels[:20])
    metric.update(logits[20:], labels[20:])
    assert metric.compute().item() == pytest.approx(expected.item(), abs=1e-12)


HALF = torch.full((3, 2), 0.5)
THREE = torch.tensor([0, 1, 1])


@pytest.mark.parametrize(
    ("preds", "target", "options", "words"),
    [
        (HALF, THREE[:2], {}, "target must be integers [3]"),
        (HALF, THREE.float(), {}, "torch.float32"),
        (HALF, HALF, {}, "target must be integers"),
        (HALF.long(), THREE, {}, "preds must be floating point"),
        (HALF[None], THREE, {}, "[1, 3, 2]"),
        (HALF[:0], THREE[:0], {}, "holds no value"),
        (HALF[:, :1], THREE, {}, "one column"),
        (HALF, THREE + 1, {}, "0..1 for 2 classes, got values 1..2"),
        (HALF, THREE - 1, {}, "got values -1..0"),
        (HALF * math.nan, THREE, {}, "NaN"),
        (HALF * math.nan, THREE, {"from_logits": True}, "NaN"),
        (HALF * math.inf, THREE, {"from_logits": True}, "inf"),
        (HALF * -math.inf, THREE, {"from_logits": True}, "-inf only"),
        (HALF * 3, THREE, {}, "got 1.5; for logits say from_logits=True"),
        (HALF - 1, THREE, {}, "got -0.5"),
        (torch.tensor([[0.5, 0.5], [0.5, 0.4], [0.5, 0.5]]), THREE, {}, "got 0.9 in row 1"),
        (HALF[:, 0], THREE + 1, {}, "got values 1..2"),
        (HALF[:, 0] * 2.5, THREE, {}, "[0, 1]"),
        (np.array([["a", "b"]]), np.array([0]), {}, "array of numbers"),
        (HALF, THREE, {"n_bins": 0}, "n_bins must be a positive integer, got 0"),
        (HALF, THREE, {"n_bins": 2.5}, "got 2.5"),
        (HALF, THREE, {"norm": "L1"}, "one of l1, l2, max, got 'L1'"),
        (HALF, THREE, {"strategy": "width"}, "one of uniform, quantile, got 'width'"),
    ],
)
def test_bad_input_is_refused_in_one_line(preds, target, options, words):
    with pytest.raises(ValueError, match=r".") as caught:
        calibration_error(preds, target, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"n_bins": 0}, {"norm": "l3"}])
def test_metric_refuses_bad_options_at_construction(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        CalibrationError(**options)


def test_metric_without_a_sample_is_an_error():
    with pytest.raises(ValueError, match="no sample"), pytest.warns(UserWarning, match="before the ``update``"):
        CalibrationError().compute()


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
    nan = bin_sums(torch.full((3, 2), math.nan, device="cuda"), torch.zeros(3, dtype=torch.long).cuda(), 5, True)
    assert nan[1].isnan().any()
