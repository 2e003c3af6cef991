"""Calibration error without the bias of finite bins.

A perfectly calibrated classifier has a positive binned error on any finite sample, since the accuracy of ``N_b``
samples scatters around its mean with the variance ``a (1 - a) / N_b``. Kumar, Liang, Ma, "Verified uncertainty
calibration" (NeurIPS 2019), section 5, take an unbiased estimate of that variance off the square of each bin's gap::

    E^2 = sum_b (N_b / N) * [ (confidence_b - accuracy_b)^2 - accuracy_b (1 - accuracy_b) / (N_b - 1) ]

A bin with one sample has no such estimate and adds nothing.
"""

import numpy.typing as npt
from torch import Tensor

from .bins import edges_and_sums
from .inputs import Strategy, answer, check_options, prepare


def debiased_square(sums: Tensor) -> Tensor:
    """Return ``E^2`` of the sums ``[3, n_bins]`` that the bins are made of; it can be negative."""
    count, confidence, correct = sums
    held = count.clamp(min=1)
    accuracy = correct / held
    square = ((correct - confidence) / held).square() - accuracy * (1 - accuracy) / (count - 1).clamp(min=1)
    return (count / count.sum() * square * (count > 1)).sum()


def debiased_calibration_error(
    preds: Tensor | npt.ArrayLike,
    target: Tensor | npt.ArrayLike,
    *,
    n_bins: int = 15,
    strategy: Strategy = "quantile",
    squared: bool = False,
    from_logits: bool = False,
) -> Tensor | float:
    """Estimate the root-mean-square calibration error of the bins without bias (of its square).

    Args:
        preds: ``[N, K]`` or ``[N]``, see :func:`evaluation.calibration_error`.
        target: ``[N]`` integer labels.
        n_bins: Number of bins.
        strategy: ``"quantile"`` (the paper's) or ``"uniform"``.
        squared: Return ``E^2``, which is without bias and negative about half the time for a calibrated classifier.
        from_logits: ``preds`` are logits.

    Returns:
        ``sqrt(max(E^2, 0))``, or ``E^2``; a float64 scalar tensor for a tensor, else a float.

    Raises:
        ValueError: As :func:`evaluation.calibration_error`.

    Example:
        >>> round(debiased_calibration_error([0.9] * 4, [1, 1, 0, 0], n_bins=1, squared=True), 6)  # 0.4^2 - 0.25 / 3
        0.076667
    """
    check_options(n_bins, "l2", strategy)
    scores, labels = prepare(preds, target, from_logits)
    square = debiased_square(edges_and_sums(scores, labels, n_bins, strategy, from_logits)[1])
    return answer(square if squared else square.clamp(min=0).sqrt(), preds)
