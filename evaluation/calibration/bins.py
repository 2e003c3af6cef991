"""Bins of samples by confidence, and the sums from which calibration errors are computed.

Bin `b` is `(edge_b, edge_{b+1}]`, closed on the right as in Guo et al. 2017; a confidence of exactly 0 is in the first
bin.

Equal width (`uniform`): `edge_b = b/n`. Values are compared exactly: a float32 is compared with the real number `k/n`
(float32 0.1 is slightly above 1/10 and thus in the second of ten bins), so converting a value to float64 does not
change its bin. For float64 values the edge is the float64 nearest to `k/n`, so that `k / n` in Python is in bin
`k - 1`.

Equal mass (`quantile`): `edge_b` is the smallest confidence that at least `b/n` of all samples do not exceed (numpy's
`inverted_cdf`). Without ties the sizes of two bins differ by at most one. Equal confidences are always in one bin, so
the order of the samples does not matter; with many ties some bins are empty.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .inputs import Norm, Predictions, Strategy, accumulation_dtype


def inner_edges(n_bins: int, dtype: torch.dtype) -> Tensor:
    """Return the edges `1/n .. (n-1)/n`, each rounded down to `dtype`.

    Because they are rounded down, `c <= edge` has the same answer in float32 as with the float64 edge.
    """
    edges = torch.tensor([k / n_bins for k in range(1, n_bins)], dtype=torch.float64)
    rounded = edges.to(dtype)
    below = torch.nextafter(rounded, torch.full_like(rounded, -1.0))
    return torch.where(rounded.double() > edges, below, rounded)


def confidences(predictions: Predictions) -> tuple[Tensor, Tensor]:
    """Return the confidence of each sample and whether the prediction is right, see `calibration_error`."""
    if predictions.scores.ndim == 1:
        scores = predictions.wide().sigmoid() if predictions.from_logits else predictions.scores
        return scores, predictions.labels == 1
    parts = [_confidence(chunk) for chunk in predictions.chunks()]
    return torch.cat([confidence for confidence, _ in parts]), torch.cat([correct for _, correct in parts])


def _confidence(chunk: Predictions) -> tuple[Tensor, Tensor]:
    top, predicted = chunk.scores.max(dim=1)
    if chunk.from_logits:
        wide = chunk.wide()
        top = (wide - top.to(wide.dtype)[:, None]).exp_().sum(dim=1).reciprocal_()
    return top, predicted == chunk.labels


def sums_in(bins: Tensor, n_bins: int, *values: Tensor) -> Tensor:
    """Return `[len(values), n_bins]`: the sum of each of the values, one for each index in `bins`, in each bin."""
    sums = torch.zeros(len(values), n_bins, dtype=accumulation_dtype(bins.device), device=bins.device)
    for total, value in zip(sums, values, strict=True):
        total.scatter_add_(0, bins.flatten(), value.to(sums.dtype).flatten())
    return sums


def bin_sums(predictions: Predictions, n_bins: int) -> Tensor:
    """Return `[3, n_bins]`, sums over equal-width bins: of samples, confidence and correct predictions.

    The sums of two sets add up to the sums of both. A NaN among the predictions becomes a NaN in one of the bins.
    """
    confidence, correct = confidences(predictions)
    # float32 holds every float16 and bfloat16, so this conversion moves no confidence across an edge.
    confidence = (confidence if confidence.dtype == torch.float64 else confidence.float()).contiguous()
    return _sums(confidence, correct, inner_edges(n_bins, confidence.dtype).to(confidence.device))


def _sums(confidence: Tensor, correct: Tensor, edges: Tensor) -> Tensor:
    bins = torch.bucketize(confidence, edges)
    return sums_in(bins, len(edges) + 1, torch.ones_like(confidence), confidence, correct)


def column_sums(
    predictions: Predictions, n_bins: int, values: Callable[[Tensor, Tensor], tuple[Tensor, ...]]
) -> Tensor:
    """Return `[M, C, n_bins]`: the sums of M values, in the equal-width bins of the probability of each class.

    `values` maps the two tensors of `Predictions.columns` to M tensors `[N, C]`.
    """

    def sums(chunk: Predictions) -> Tensor:
        p, label = chunk.columns()
        edges = inner_edges(n_bins, p.dtype).to(p.device)
        bins = torch.bucketize(p, edges) + n_bins * torch.arange(p.shape[1], device=p.device)
        return sums_in(bins, n_bins * p.shape[1], *values(p, label)).unflatten(1, (-1, n_bins))

    return predictions.sum(sums)


def all_edges(n_bins: int) -> Tensor:
    """Return the edges `0, 1/n .. 1` of equal-width bins."""
    return torch.arange(n_bins + 1, dtype=torch.float64) / n_bins


def quantile_edges(confidence: Tensor, n_bins: int) -> Tensor:
    """Return the `n_bins - 1` inner edges of equal-mass bins, which are values of `confidence`."""
    count = len(confidence)
    ranks = [-(-k * count // n_bins) - 1 for k in range(1, n_bins)]  # ceil(k N / n)-th smallest
    return confidence.sort().values[torch.tensor(ranks, dtype=torch.long, device=confidence.device)]


def edges_and_sums(predictions: Predictions, n_bins: int, strategy: Strategy) -> tuple[Tensor, Tensor]:
    """Return all edges `[n_bins + 1]`, from 0 to 1, float64 on the CPU, and the sums `[3, n_bins]`, see `bin_sums`."""
    if strategy == "uniform":
        return all_edges(n_bins), bin_sums(predictions, n_bins)
    confidence, correct = confidences(predictions)
    inner = quantile_edges(confidence, n_bins)
    edges = torch.cat([inner.new_zeros(1), inner, inner.new_ones(1)])
    return edges.double().cpu(), _sums(confidence, correct, inner)


def error_from_sums(sums: Tensor, norm: Norm) -> Tensor:
    """Return the calibration errors `[...]` of the sums `[3, ..., n_bins]`; NaN for sums that count no sample."""
    count, confidence, correct = sums
    gap = (correct - confidence).abs() / count.clamp(min=1)
    weight = count / count.sum(dim=-1, keepdim=True)
    if norm == "l1":
        return (weight * gap).sum(dim=-1)
    if norm == "l2":
        return (weight * gap.square()).sum(dim=-1).sqrt()
    return (gap + 0 * weight).amax(dim=-1)  # 0 * weight keeps the NaN of an empty set
