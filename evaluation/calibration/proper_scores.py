"""Proper scores of a classifier's probabilities: Brier score, its decomposition, and negative log-likelihood."""

from typing import NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import softplus

from .bins import inner_edges
from .inputs import Predictions, accumulation_dtype, check_options, like, prepare


def brier_score(
    preds: Tensor | npt.ArrayLike, target: Tensor | npt.ArrayLike, *, from_logits: bool = False
) -> Tensor | float:
    """Compute the Brier score, the mean squared distance between probabilities and labels.

    Brier, "Verification of forecasts expressed in terms of probability" (Monthly Weather Review, 1950)::

        [N, K]:  (1/N) sum_i sum_k (p_ik - [label_i = k])^2     in [0, 2]
        [N]:     (1/N) sum_i (p_i - label_i)^2                  in [0, 1]; half of that of the columns [1 - p, p]

    Args:
        preds: `[N, K]` or `[N]` probabilities (or logits), see `calibration_error`.
        target: `[N]` integer labels.
        from_logits: Whether `preds` are logits.

    Returns:
        A float64 scalar tensor for a tensor, otherwise a float.

    Raises:
        ValueError: As `calibration_error`.

    Example:
        >>> brier_score([[0.5, 0.5], [1.0, 0.0]], [0, 0])
        0.25
        >>> brier_score([0.5, 0.0], [1, 0])
        0.125
    """
    return like(mean_brier_score(prepare(preds, target, from_logits)), preds)


def mean_brier_score(predictions: Predictions) -> Tensor:
    """Compute `brier_score` of checked predictions."""
    return brier_sum(predictions) / len(predictions)


def brier_sum(predictions: Predictions) -> Tensor:
    """Return the sum of the samples' Brier scores."""

    def score(chunk: Predictions) -> Tensor:
        p = _columns(chunk)
        return (p - _hits(chunk.labels, p)).square().sum()

    return predictions.sum(score)


def negative_log_likelihood(
    preds: Tensor | npt.ArrayLike, target: Tensor | npt.ArrayLike, *, from_logits: bool = False
) -> Tensor | float:
    """Compute the mean negative log-likelihood (cross-entropy, log loss) in nats.

    Args:
        preds: `[N, K]` or `[N]` probabilities (or logits), see `calibration_error`.
        target: `[N]` integer labels.
        from_logits: Whether `preds` are logits; then nothing is lost to probabilities that round to 0.

    Returns:
        A float64 scalar tensor for a tensor, otherwise a float; inf if a label has the probability 0.

    Raises:
        ValueError: As `calibration_error`.

    Example:
        >>> round(negative_log_likelihood([[0.5, 0.5], [0.25, 0.75]], [0, 1]), 6)
        0.490415
    """
    return like(mean_log_loss(prepare(preds, target, from_logits)), preds)


def mean_log_loss(predictions: Predictions) -> Tensor:
    """Compute `negative_log_likelihood` of checked predictions."""
    return log_loss_sum(predictions) / len(predictions)


def log_loss_sum(predictions: Predictions) -> Tensor:
    """Return the sum of the samples' negative log-likelihoods."""

    def loss(chunk: Predictions) -> Tensor:
        wide, labels = chunk.scores.to(accumulation_dtype(chunk.scores.device)), chunk.labels
        if wide.ndim == 1:
            if chunk.from_logits:
                return softplus(torch.where(labels == 1, -wide, wide), threshold=40).sum()
            return -torch.where(labels == 1, wide, 1 - wide).log().sum()
        own = wide.gather(1, labels[:, None]).squeeze(1)
        return (wide.logsumexp(dim=1) - own if chunk.from_logits else -own.log()).sum()

    return predictions.sum(loss)


class BrierDecomposition(NamedTuple):
    """Parts of a Brier score, which is `reliability - resolution + uncertainty + within_bins`."""

    reliability: float
    resolution: float
    uncertainty: float
    within_bins: float


def brier_decomposition(
    preds: Tensor | npt.ArrayLike, target: Tensor | npt.ArrayLike, *, n_bins: int = 15, from_logits: bool = False
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

    Args:
        preds: `[N, K]` or `[N]` probabilities (or logits), see `calibration_error`.
        target: `[N]` integer labels.
        n_bins: Number of bins.
        from_logits: Whether `preds` are logits.

    Returns:
        The four parts.

    Raises:
        ValueError: As `calibration_error`.

    Example:
        >>> parts = brier_decomposition([0.25, 0.25, 0.75, 0.75], [0, 1, 1, 1], n_bins=2)
        >>> parts.reliability - parts.resolution + parts.uncertainty + parts.within_bins
        0.1875
        >>> brier_score([0.25, 0.25, 0.75, 0.75], [0, 1, 1, 1])
        0.1875
    """
    check_options(n_bins)
    predictions = prepare(preds, target, from_logits)
    count, p, y, pp, py = _moments(predictions, n_bins)
    total = len(predictions)
    share, samples = y.sum(dim=1, keepdim=True) / total, count.clamp(min=1)
    reliability = ((p - y).square() / samples).sum() / total
    resolution = (count * (y / samples - share).square()).sum() / total
    uncertainty = (share * (1 - share)).sum()
    within = ((pp - p * p / samples) - 2 * (py - p * y / samples)).sum() / total
    return BrierDecomposition(*(float(part) for part in (reliability, resolution, uncertainty, within)))


def _moments(predictions: Predictions, n_bins: int) -> Tensor:
    """Return `[5, C, n_bins]`: the sums of 1, p, y, p^2 and p*y in the bins of each class."""
    device = predictions.scores.device
    edges = inner_edges(n_bins, accumulation_dtype(device)).to(device)

    def sums(chunk: Predictions) -> Tensor:
        p = _columns(chunk)
        y = _hits(chunk.labels, p)
        first = torch.arange(p.shape[1], device=device) * n_bins
        index = (torch.bucketize(p, edges) + first).flatten().expand(5, -1)
        values = torch.stack([torch.ones_like(p), p, y, p * p, p * y]).view(5, -1)
        return torch.zeros(5, p.shape[1] * n_bins, dtype=p.dtype, device=device).scatter_add_(1, index, values)

    return predictions.sum(sums).view(5, -1, n_bins)


def _columns(predictions: Predictions) -> Tensor:
    """Return `[N, C]` float64 probabilities: of each class, or of class 1 alone for `[N]`."""
    wide = predictions.scores.to(accumulation_dtype(predictions.scores.device))
    if wide.ndim == 1:
        return (wide.sigmoid() if predictions.from_logits else wide)[:, None]
    return wide.softmax(dim=1) if predictions.from_logits else wide


def _hits(labels: Tensor, columns: Tensor) -> Tensor:
    """Return 1 where a column of `_columns` belongs to the label, otherwise 0."""
    if columns.shape[1] == 1:
        return labels[:, None].to(columns.dtype)
    return torch.zeros_like(columns).scatter_(1, labels[:, None], 1)
