"""Brier score, its decomposition, and negative log-likelihood: proper scores of a classifier's probabilities."""

from typing import NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import softplus

from .bins import inner_edges, uniform_bins
from .chunks import accumulation_dtype, sum_over
from .inputs import answer, check_options, prepare


def columns(preds: Tensor, from_logits: bool) -> Tensor:
    """Return ``[N, C]`` float64 probabilities: of each class, or of class 1 alone for ``[N]``."""
    wide = preds.to(accumulation_dtype(preds.device))
    if preds.ndim == 1:
        return (wide.sigmoid() if from_logits else wide)[:, None]
    return wide.softmax(dim=1) if from_logits else wide


def hits(target: Tensor, like: Tensor) -> Tensor:
    """Return 1 where a column of :func:`columns` is the label's, else 0."""
    if like.shape[1] == 1:
        return target[:, None].to(like.dtype)
    return torch.zeros_like(like).scatter_(1, target[:, None], 1)


def brier_sums(preds: Tensor, target: Tensor, from_logits: bool) -> Tensor:
    """Return ``[2]``: samples, and the sum of their Brier scores."""

    def score(piece: Tensor, labels: Tensor) -> Tensor:
        p = columns(piece, from_logits)
        return (p - hits(labels, p)).square().sum()

    return _with_count(sum_over(score, preds, target), target)


def nll_sums(preds: Tensor, target: Tensor, from_logits: bool) -> Tensor:
    """Return ``[2]``: samples, and the sum of their negative log-likelihoods."""

    def loss(piece: Tensor, labels: Tensor) -> Tensor:
        wide = piece.to(accumulation_dtype(piece.device))
        if wide.ndim == 1:
            if from_logits:
                return softplus(torch.where(labels == 1, -wide, wide), threshold=40).sum()
            return -torch.where(labels == 1, wide, 1 - wide).log().sum()
        own = wide.gather(1, labels[:, None]).squeeze(1)
        return (wide.logsumexp(dim=1) - own if from_logits else -own.log()).sum()

    return _with_count(sum_over(loss, preds, target), target)


def _with_count(total: Tensor, target: Tensor) -> Tensor:
    return torch.stack([torch.full_like(total, len(target)), total])


def brier_score(
    preds: Tensor | npt.ArrayLike, target: Tensor | npt.ArrayLike, *, from_logits: bool = False
) -> Tensor | float:
    """Compute the Brier score, the mean squared distance of the probabilities from the truth.

    Brier, "Verification of forecasts expressed in terms of probability" (Monthly Weather Review, 1950)::

        [N, K]:  (1/N) sum_i sum_k (p_ik - [label_i = k])^2     in [0, 2]
        [N]:     (1/N) sum_i (p_i - label_i)^2                  in [0, 1]; half of that of the columns [1 - p, p]

    Args:
        preds: ``[N, K]`` or ``[N]`` probabilities (or logits), see :func:`evaluation.calibration_error`.
        target: ``[N]`` integer labels.
        from_logits: ``preds`` are logits.

    Returns:
        A float64 scalar tensor for a tensor, else a float.

    Raises:
        ValueError: As :func:`evaluation.calibration_error`.

    Example:
        >>> brier_score([[0.5, 0.5], [1.0, 0.0]], [0, 0])
        0.25
        >>> brier_score([0.5, 0.0], [1, 0])
        0.125
    """
    scores, labels = prepare(preds, target, from_logits)
    count, total = brier_sums(scores, labels, from_logits)
    return answer(total / count, preds)


def negative_log_likelihood(
    preds: Tensor | npt.ArrayLike, target: Tensor | npt.ArrayLike, *, from_logits: bool = False
) -> Tensor | float:
    """Compute the mean negative log-likelihood (cross-entropy, log loss) in nats.

    Args:
        preds: ``[N, K]`` or ``[N]`` probabilities (or logits), see :func:`evaluation.calibration_error`.
        target: ``[N]`` integer labels.
        from_logits: ``preds`` are logits; then nothing is lost to probabilities that round to 0.

    Returns:
        A float64 scalar tensor for a tensor, else a float; inf if a label was given the probability 0.

    Raises:
        ValueError: As :func:`evaluation.calibration_error`.

    Example:
        >>> round(negative_log_likelihood([[0.5, 0.5], [0.25, 0.75]], [0, 1]), 6)
        0.490415
    """
    scores, labels = prepare(preds, target, from_logits)
    count, total = nll_sums(scores, labels, from_logits)
    return answer(total / count, preds)


class BrierDecomposition(NamedTuple):
    """Parts of a Brier score: ``reliability - resolution + uncertainty + within_bins`` is the score."""

    reliability: float
    resolution: float
    uncertainty: float
    within_bins: float


def brier_decomposition(
    preds: Tensor | npt.ArrayLike, target: Tensor | npt.ArrayLike, *, n_bins: int = 15, from_logits: bool = False
) -> BrierDecomposition:
    """Split the Brier score into reliability, resolution and uncertainty.

    Murphy, "A new vector partition of the probability score" (Journal of Applied Meteorology, 1973), for the
    probability ``p`` of each class in bins ``b`` of equal width, with the class's share ``o_b`` in bin ``b`` and ``o``
    in all; summed over the K classes, or for class 1 alone when ``preds`` is ``[N]``::

        reliability = sum_b (N_b / N) (p_b - o_b)^2     how far the probabilities are from the shares: 0 is best
        resolution  = sum_b (N_b / N) (o_b - o)^2       how far the bins' shares are apart: high is good
        uncertainty = o (1 - o)                         that of the labels; no classifier changes it

    Probabilities that differ within a bin leave a rest (Stephenson, Coelho, Jolliffe, "Two extra components in the
    Brier score decomposition", Weather and Forecasting, 2008), the mean over all samples of
    ``(p - p_b)^2 - 2 (p - p_b)(y - o_b)``: ``within_bins``.

    Args:
        preds: ``[N, K]`` or ``[N]`` probabilities (or logits), see :func:`evaluation.calibration_error`.
        target: ``[N]`` integer labels.
        n_bins: Number of bins.
        from_logits: ``preds`` are logits.

    Returns:
        The four parts.

    Raises:
        ValueError: As :func:`evaluation.calibration_error`.

    Example:
        >>> parts = brier_decomposition([0.25, 0.25, 0.75, 0.75], [0, 1, 1, 1], n_bins=2)
        >>> parts.reliability - parts.resolution + parts.uncertainty + parts.within_bins
        0.1875
        >>> brier_score([0.25, 0.25, 0.75, 0.75], [0, 1, 1, 1])
        0.1875
    """
    check_options(n_bins, "l2", "uniform")
    scores, labels = prepare(preds, target, from_logits)
    count, p, y, pp, py = _moments(scores, labels, n_bins, from_logits)
    total = len(labels)
    share, held = y.sum(dim=1, keepdim=True) / total, count.clamp(min=1)
    reliability = ((p - y).square() / held).sum() / total
    resolution = (count * (y / held - share).square()).sum() / total
    uncertainty = (share * (1 - share)).sum()
    within = ((pp - p * p / held) - 2 * (py - p * y / held)).sum() / total
    return BrierDecomposition(*(float(part) for part in (reliability, resolution, uncertainty, within)))


def _moments(preds: Tensor, target: Tensor, n_bins: int, from_logits: bool) -> Tensor:
    """Return ``[5, C, n_bins]``: the sums of 1, p, y, p^2 and p*y in each class's bins."""
    edges = inner_edges(n_bins, accumulation_dtype(preds.device)).to(preds.device)

    def sums(piece: Tensor, labels: Tensor) -> Tensor:
        p = columns(piece, from_logits)
        y = hits(labels, p)
        first = torch.arange(p.shape[1], device=p.device) * n_bins
        index = (uniform_bins(p, edges) + first).flatten().expand(5, -1)
        values = torch.stack([torch.ones_like(p), p, y, p * p, p * y]).view(5, -1)
        return torch.zeros(5, p.shape[1] * n_bins, dtype=p.dtype, device=p.device).scatter_add_(1, index, values)

    return sum_over(sums, preds, target).view(5, -1, n_bins)
