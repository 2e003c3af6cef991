"""Confidence intervals of calibration metrics by the bootstrap."""

from collections.abc import Callable
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from .inputs import prepare


def bootstrap_interval(
    metric: Callable[..., Tensor | float],
    preds: Tensor | npt.ArrayLike,
    target: Tensor | npt.ArrayLike,
    *,
    level: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
    from_logits: bool = False,
    **options: Any,
) -> tuple[float, float]:
    """Compute a confidence interval of any metric of this package.

    The samples are drawn anew with replacement ``replicates`` times. The interval is the basic one (Davison, Hinkley,
    "Bootstrap methods and their application", 1997, section 2.4): with the value ``m`` on the data and the quantiles
    ``low``, ``high`` of the replicates it is ``[2 m - high, 2 m - low]``, not below 0. A binned calibration error is
    larger on a resampled set than on its source, as it is larger on a sample than in truth; the interval of the
    replicates' own quantiles has that bias twice, the basic one takes it off.

    Args:
        metric: ``metric(preds, target, from_logits=..., **options)``, such as :func:`evaluation.calibration_error`.
        preds: Predictions, as for the metric.
        target: ``[N]`` integer labels.
        level: Share of intervals that are to hold the true value, in (0, 1).
        replicates: Number of resampled sets, at least 2; the time is that of as many calls of the metric.
        seed: Seed of the resampling, which is made on the CPU, alike for every device.
        from_logits: ``preds`` are logits.
        **options: Further options of the metric.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: As the metric; for a bad ``level`` or ``replicates``.

    Example:
        >>> from evaluation import brier_score
        >>> low, high = bootstrap_interval(brier_score, [0.9, 0.2, 0.7, 0.4] * 10, [1, 0, 0, 1] * 10)
        >>> low < brier_score([0.9, 0.2, 0.7, 0.4], [1, 0, 0, 1]) < high
        True
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level!r}")
    if isinstance(replicates, bool) or not isinstance(replicates, int) or replicates < 2:
        raise ValueError(f"replicates must be an integer of at least 2, got {replicates!r}")
    scores, labels = prepare(preds, target, from_logits)
    value = float(metric(scores, labels, from_logits=from_logits, **options))
    generator = torch.Generator().manual_seed(seed)
    found = torch.empty(replicates, dtype=torch.float64)
    for replicate in range(replicates):
        index = torch.randint(len(labels), (len(labels),), generator=generator).to(scores.device)
        found[replicate] = float(metric(scores[index], labels[index], from_logits=from_logits, **options))
    low, high = found.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)).tolist()
    return max(2 * value - high, 0.0), max(2 * value - low, 0.0)
