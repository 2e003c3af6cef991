"""Bootstrap intervals: coverage, repeatability, options, and how often predictions are checked."""

import pytest
import torch

from evaluation import bootstrap_interval, brier_score, calibration_error, negative_log_likelihood


def sample(n=600, classes=5, seed=0, sharpness=1.0):
    """Logits of a classifier that is calibrated for ``sharpness=1`` and overconfident above."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    return sharpness * logits, labels


def binary(n=600, seed=0, sharpness=1.0):
    logits, labels = sample(n, 2, seed, sharpness)
    return (logits[:, 1] - logits[:, 0]).sigmoid(), labels


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
