"""Inputs that the metrics accept, and the error messages for those they refuse."""

import math

import numpy as np
import pytest
import torch

from evaluation import CalibrationError, calibration_error


def sample(n, classes, seed=0, scale=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (n,), generator=generator)
    return logits.to(dtype), labels


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


def test_minus_infinity_rules_out_a_class():
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
        (HALF[:0], THREE[:0], {}, "at least one value"),
        (HALF[:, :1], THREE, {}, "one column"),
        (HALF, THREE + 1, {}, "0..1 for 2 classes, found values 1..2"),
        (HALF, THREE - 1, {}, "found values -1..0"),
        (HALF * math.nan, THREE, {}, "NaN"),
        (HALF * math.nan, THREE, {"from_logits": True}, "NaN"),
        (HALF * math.inf, THREE, {"from_logits": True}, "inf"),
        (HALF * -math.inf, THREE, {"from_logits": True}, "-inf only"),
        (HALF * 3, THREE, {}, "found 1.5; for logits set from_logits=True"),
        (HALF - 1, THREE, {}, "found -0.5"),
        (torch.tensor([[0.5, 0.5], [0.5, 0.4], [0.5, 0.5]]), THREE, {}, "found 0.9 in row 1"),
        (HALF[:, 0], THREE + 1, {}, "found values 1..2"),
        (HALF[:, 0] * 2.5, THREE, {}, "[0, 1]"),
        (np.array([["a", "b"]]), np.array([0]), {}, "array of numbers"),
        (HALF, THREE, {"n_bins": 0}, "n_bins must be a positive integer, found 0"),
        (HALF, THREE, {"n_bins": 2.5}, "found 2.5"),
        (HALF, THREE, {"norm": "L1"}, "one of l1, l2, max, found 'L1'"),
        (HALF, THREE, {"strategy": "width"}, "one of uniform, quantile, found 'width'"),
    ],
)
def test_bad_input_is_refused_in_one_line(preds, target, options, words):
    with pytest.raises(ValueError, match=r".") as caught:
        calibration_error(preds, target, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
