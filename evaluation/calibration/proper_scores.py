"""Proper scores of a classifier's probabilities: Brier score, its decomposition, and negative log-likelihood."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..checks import Array
from .bins import column_sums
from .inputs import Predictions, check_options, like, prepare


def brier_score(preds: Array, target: Array, *, from_logits: bool = False) -> Tensor | float:
    """Compute the Brier score, the mean squared distance between probabilities and labels.

    Brier, "Verification of forecasts expressed in terms of probability" (Monthly Weather Review, 1950)::

        [N, K]:  (1/N) sum_i sum_k (p_ik - [label_i = k])^2     in [0, 2]
        [N]:     (1/N) sum_i (p_i - label_i)^2                  in [0, 1]; half of that of the columns [1 - p, p]

    Arguments, type of the result and errors are those of `calibration_error`.

    Example:
        >>> brier_score([[0.5, 0.5], [1.0, 0.0]], [0, 0])
        0.25
        >>> brier_score([0.5, 0.0], [1, 0])
        0.125
    """
    return like(prepare(preds, target, from_logits).mean(brier_sum), preds)


def brier_sum(predictions: Predictions) -> Tensor:
    """Return the sum of the samples' Brier scores."""
    p, label = predictions.columns()
    return (p - label).square().sum()


def negative_log_likelihood(preds: Array, target: Array, *, from_logits: bool = False) -> Tensor | float:
    """Compute the mean negative log-likelihood (cross-entropy, log loss) in nats.

    Arguments, type of the result and errors are those of `calibration_error`. The result is inf if a label has the
    probability 0; with `from_logits` nothing is lost to probabilities that round to 0.

    Example:
        >>> round(negative_log_likelihood([[0.5, 0.5], [0.25, 0.75]], [0, 1]), 6)
        0.490415
    """
    return like(prepare(preds, target, from_logits).mean(log_loss_sum), preds)


def log_loss_sum(predictions: Predictions) -> Tensor:
    """Return the sum of the samples' negative log-likelihoods."""
    wide, labels = predictions.wide(), predictions.labels
    if wide.ndim == 1:
        if predictions.from_logits:
            return softplus(torch.where(labels == 1, -wide, wide), threshold=40).sum()
        return -torch.where(labels == 1, wide, 1 - wide).log().sum()
    own = wide.gather(1, labels[:, None]).squeeze(1)
    return (wide.logsumexp(dim=1) - own if predictions.from_logits else -own.log()).sum()


class BrierDecomposition(NamedTuple):
    """Parts of a Brier score, which is `reliability - resolution + uncertainty + within_bins`."""

    reliability: float
    resolution: float
    uncertainty: float
    within_bins: float


def brier_decomposition(
    preds: Array, target: Array, *, n_bins: int = 15, from_logits: bool = False
) -> BrierDecomposition:
    """Split the Brier score into reliability, resolution and uncertainty.

    Murphy, "A new vector partition of the probability score" (Journal of Applied Meteorology, 1973), for the
    probability `p` of each class in bins `b` of equal width, with the class's share `o_b` in bin `b` and `o` in all;
    summed over the K classes, or for class 1 alone if `preds` is `[N]`::

        reliability = sum_b (N_b / N) (p_b - o_b)^2     distance between probabilities and shares: 0 is best
        resolution  = sum_b (N_b / N) (o_b - o)^2       distance between the bins' shares: higher is better
        uncertainty = o (1 - o)                         that of the labels; the same for every classifier

    Probabilities that differ within a bin leave a remainder (Stephenson, Coelho, Jolliffe, "Two extra components in the
    Brier score decomposition", Weather and Forecasting, 2008), the mean over all samples of
    `(p - p_b)^2 - 2 (p - p_b)(y - o_b)`: `within_bins`.

    Arguments and errors are those of `calibration_error`.

    Example:
        >>> parts = brier_decomposition([0.25, 0.25, 0.75, 0.75], [0, 1, 1, 1], n_bins=2)
        >>> parts.reliability - parts.resolution + parts.uncertainty + parts.within_bins
        0.1875
        >>> brier_score([0.25, 0.25, 0.75, 0.75], [0, 1, 1, 1])
        0.1875
    """
    check_options(n_bins)
    predictions = prepare(preds, target, from_logits)
    count, p, y, pp, py = column_sums(predictions, n_bins, lambda p, y: (torch.ones_like(p), p, y, p * p, p * y))
    total = len(predictions)
    share, samples = y.sum(dim=1, keepdim=True) / total, count.clamp(min=1)
    reliability = ((p - y).square() / samples).sum() / total
    resolution = (count * (y / samples - share).square()).sum() / total
    uncertainty = (share * (1 - share)).sum()
    within = ((pp - p * p / samples) - 2 * (py - p * y / samples)).sum() / total
    return BrierDecomposition(*(float(part) for part in (reliability, resolution, uncertainty, within)))
