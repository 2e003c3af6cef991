"""Bootstrap intervals: coverage, repeatability and options."""

import pytest

from evaluation import bootstrap_interval, brier_score, calibration_error, negative_log_likelihood
from reference.calibrated import binary, sample


def test_intervals_cover_the_true_value_at_their_level():
    truth = negative_log_likelihood(*sample(400_000, 3, seed=99), from_logits=True).item()
    held = 0
    for seed in range(60):
        logits, labels = sample(200, 3, seed=seed)
        options = {"from_logits": True, "replicates": 60, "level": 0.9, "seed": seed}
        low, high = bootstrap_interval(negative_log_likelihood, logits, labels, **options)
        held += low <= truth <= high
    assert 45 <= held <= 59  # 54 expected, standard deviation 2.3


def test_intervals_are_repeatable_and_pass_on_options():
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
