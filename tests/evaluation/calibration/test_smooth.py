"""The smooth calibration error against its definition and relplot."""

import math

import numpy as np
import pytest
import torch

from evaluation import smooth_calibration_error
from reference.calibrated import binary, sample


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
