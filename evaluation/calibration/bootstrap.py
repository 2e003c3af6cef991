"""Bootstrap confidence intervals of calibration metrics."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..checks import Array, check_count
from . import errors
from .inputs import Predictions, check_level, prepare
from .proper_scores import brier_score, brier_sum, log_loss_sum, negative_log_likelihood
from .smooth import smooth_calibration_error, smooth_error

# Resampled sets of checked predictions need no further check: these metrics are computed without it.
_OF_CHECKED: dict[Callable[..., Tensor | float], Callable[..., Tensor]] = {
    errors.calibration_error: errors.binned_error,
    errors.classwise_calibration_error: errors.classwise_error,
    errors.debiased_calibration_error: errors.debiased_error,
    smooth_calibration_error: smooth_error,
    brier_score: lambda predictions: predictions.mean(brier_sum),
    negative_log_likelihood: lambda predictions: predictions.mean(log_loss_sum),
}


def bootstrap_interval(
    metric: Callable[..., Tensor | float],
    preds: Array,
    target: Array,
    *,
    level: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
    from_logits: bool = False,
    **options: Any,
) -> tuple[float, float]:
    """Compute the lower and the upper end of a confidence interval of any metric of this package.

    The samples are redrawn with replacement `replicates` times. The interval is the basic one (Davison, Hinkley,
    "Bootstrap methods and their application", 1997, section 2.4): with the value `m` on the data and the quantiles
    `low`, `high` of the replicates it is `[2 m - high, 2 m - low]`, not below 0. A binned calibration error is larger
    on a resampled set than on its source, as it is larger on a sample than on the whole population; the replicates' own
    quantiles would contain that bias twice, the basic interval removes it.

    Args:
        metric: `metric(preds, target, from_logits=..., **options)`, such as `calibration_error`.
        preds: Predictions, as for the metric.
        target: `[N]` integer labels.
        level: Share of intervals that contain the true value, in (0, 1).
        replicates: Number of resampled sets, at least 2; the metric is computed once for each.
        seed: Random seed. Samples are drawn on the CPU, identically for every device.
        from_logits: Whether `preds` are logits.
        **options: Further options of the metric.

    Raises:
        ValueError: As the metric; for a bad `level` or `replicates`.

    Example:
        >>> from evaluation import brier_score
        >>> low, high = bootstrap_interval(brier_score, [0.9, 0.2, 0.7, 0.4] * 10, [1, 0, 0, 1] * 10)
        >>> low < brier_score([0.9, 0.2, 0.7, 0.4], [1, 0, 0, 1]) < high
        True
    """
    of_checked = _OF_CHECKED.get(metric)

    def value(predictions: Predictions) -> Tensor | float:
        if of_checked is not None:
            return of_checked(predictions, **options)
        return metric(predictions.scores, predictions.labels, from_logits=from_logits, **options)

    return interval(value, prepare(preds, target, from_logits), level, replicates, seed)


def interval(
    metric: Callable[[Predictions], Tensor | float],
    predictions: Predictions,
    level: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Compute `bootstrap_interval` of a metric of checked predictions."""
    check_level(level)
    check_count("replicates", replicates, least=2)
    value, count = float(metric(predictions)), len(predictions)
    generator = torch.Generator().manual_seed(seed)
    values = torch.empty(replicates, dtype=torch.float64)
    for replicate in range(replicates):
        index = torch.randint(count, (count,), generator=generator).to(predictions.scores.device)
        values[replicate] = float(metric(predictions[index]))
    low, high = values.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)).tolist()
    return max(2 * value - high, 0.0), max(2 * value - low, 0.0)
