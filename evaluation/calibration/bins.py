"""Samples sorted into bins by confidence, and the sums that calibration errors are made of.

Bin ``b`` is ``(edge_b, edge_{b+1}]``, closed on the right as in Guo et al. 2017; a confidence of exactly 0 is in the
first bin.

Equal width (``uniform``): ``edge_b = b/n``. A value is taken as the number that it is: a float32 is compared with the
real number ``k/n`` (float32 0.1 is a little above 1/10, so it lies in the second bin of ten), hence its bin does not
change when it is converted to float64. For float64 values the edge is the float64 nearest to ``k/n``, so that ``k / n``
written in Python lies in bin ``k - 1``.

Equal mass (``quantile``): ``edge_b`` is the smallest confidence that at least ``b/n`` of all samples do not exceed
(numpy's ``inverted_cdf``). Without ties two bins differ by at most one sample; equal confidences are always in one bin,
so that the order of the samples changes nothing, and with many ties some bins are empty.
"""

import torch
from torch import Tensor

from .chunks import Piece, accumulation_dtype, pieces, shared, sum_over
from .inputs import Norm, Strategy


def inner_edges(n_bins: int, dtype: torch.dtype) -> Tensor:
    """Return the edges ``1/n .. (n-1)/n``, each the largest number of ``dtype`` that is not above it.

    Rounded down so, ``c <= edge`` has the same answer in float32 as with the float64 edge.
    """
    edges = torch.tensor([k / n_bins for k in range(1, n_bins)], dtype=torch.float64)
    rounded = edges.to(dtype)
    below = torch.nextafter(rounded, torch.full_like(rounded, -1.0))
    return torch.where(rounded.double() > edges, below, rounded)


def uniform_bins(values: Tensor, edges: Tensor) -> Tensor:
    """Return ``torch.bucketize(values, edges)`` for the edges of equal-width bins; any bin for NaN.

    A multiplication tells the bin but for values close to an edge, which two comparisons settle: that is several times
    as fast as the binary search.
    """
    last = len(edges)
    beyond = edges.new_full((1,), float("inf"))
    guess = (values * (last + 1)).long().clamp_(0, last)
    above_lower = values > torch.cat([-beyond, edges]).take(guess)
    above_upper = values > torch.cat([edges, beyond]).take(guess)
    return guess.add_(above_lower).add_(above_upper).sub_(1).clamp_(min=0)


def confidences(preds: Tensor, target: Tensor, from_logits: bool) -> tuple[Tensor, Tensor]:
    """Return per sample the confidence and whether the answer was right, see :func:`calibration_error`."""
    if preds.ndim == 1:
        return (preds.to(accumulation_dtype(preds.device)).sigmoid() if from_logits else preds), target == 1
    if preds.device.type == "cpu":
        return _confidences_on_a_cpu(preds, target, from_logits)
    made = [_confidence(rows, labels, from_logits) for rows, labels in pieces(preds, target)]
    return torch.cat([confidence for confidence, _ in made]), torch.cat([correct for _, correct in made])


def _confidence(preds: Tensor, target: Tensor, from_logits: bool) -> tuple[Tensor, Tensor]:
    top, prediction = preds.max(dim=1)
    if from_logits:
        work = accumulation_dtype(preds.device)
        top = (preds.to(work) - top.to(work)[:, None]).exp_().sum(dim=1).reciprocal_()
    return top, prediction == target


def _confidences_on_a_cpu(preds: Tensor, target: Tensor, from_logits: bool) -> tuple[Tensor, Tensor]:
    """Do the same with classes first, where operations over few classes are operations on long rows."""
    dtype = torch.float64 if from_logits or preds.dtype == torch.float64 else torch.float32
    confidence, correct = torch.empty(len(preds), dtype=dtype), torch.empty(len(preds), dtype=torch.bool)

    @torch.no_grad()
    def fill(parts: list[Piece]) -> None:
        for rows, labels, sure, right in parts:
            columns = torch.empty(rows.shape[::-1], dtype=dtype).copy_(rows.t())
            torch.amax(columns, dim=0, out=sure)
            torch.eq(columns.gather(0, labels[None]).squeeze(0), sure, out=right)
            if from_logits:
                torch.sum(columns.sub_(sure).exp_(), dim=0, out=sure)

    shared(fill, preds, target, confidence, correct)
    if from_logits:
        confidence.reciprocal_()
    # Right is so far whose label has a largest value. Two largest ones are at most 1/2 each: there, the first counts.
    tied = (correct & (confidence <= 0.51)).nonzero().squeeze(1)
    correct[tied] = preds[tied].argmax(dim=1) == target[tied]
    return confidence, correct


def bin_sums(preds: Tensor, target: Tensor, n_bins: int, from_logits: bool) -> Tensor:
    """Return ``[3, n_bins]``: samples, sum of confidence, sum of right answers in each bin. Arguments are not checked.

    The bins have equal width. Sums of two sets add up to the sums of both. A NaN among the predictions becomes a NaN in
    one of the bins.
    """
    confidence, correct = confidences(preds, target, from_logits)
    # float32 holds every float16 and bfloat16, so that this conversion moves no confidence across an edge.
    confidence = confidence if confidence.dtype == torch.float64 else confidence.float()
    edges = inner_edges(n_bins, confidence.dtype).to(preds.device)

    def sums(piece: Tensor, right: Tensor) -> Tensor:
        return sums_in(uniform_bins(piece, edges), piece, right, n_bins)

    return sum_over(sums, confidence, correct)


def sums_in(bins: Tensor, confidence: Tensor, correct: Tensor, n_bins: int) -> Tensor:
    """Return the sums ``[3, n_bins]`` of samples whose bins are known."""
    work = accumulation_dtype(confidence.device)
    sums = torch.zeros(3, n_bins, dtype=work, device=confidence.device)
    sums[0].scatter_add_(0, bins, torch.ones_like(confidence, dtype=work))
    sums[1].scatter_add_(0, bins, confidence.to(work))
    sums[2].scatter_add_(0, bins, correct.to(work))
    return sums


def all_edges(n_bins: int) -> Tensor:
    """Return the edges ``0, 1/n .. 1`` of equal-width bins."""
    return torch.arange(n_bins + 1, dtype=torch.float64) / n_bins


def quantile_edges(confidence: Tensor, n_bins: int) -> Tensor:
    """Return the ``n_bins - 1`` inner edges of equal-mass bins, which are values of ``confidence``."""
    count = len(confidence)
    ranks = [-(-k * count // n_bins) - 1 for k in range(1, n_bins)]  # ceil(k N / n)-th smallest
    return confidence.sort().values[torch.tensor(ranks, dtype=torch.long, device=confidence.device)]


def edges_and_sums(
    preds: Tensor, target: Tensor, n_bins: int, strategy: Strategy, from_logits: bool
) -> tuple[Tensor, Tensor]:
    """Return all edges ``[n_bins + 1]``, from 0 to 1, on the CPU, and the sums ``[3, n_bins]``."""
    if strategy == "uniform":
        return all_edges(n_bins), bin_sums(preds, target, n_bins, from_logits)
    confidence, correct = confidences(preds, target, from_logits)
    inner = quantile_edges(confidence, n_bins)
    edges = torch.cat([inner.new_zeros(1), inner, inner.new_ones(1)])
    return edges.double().cpu(), sums_in(torch.bucketize(confidence, inner), confidence, correct, n_bins)


def error_from_sums(sums: Tensor, norm: Norm) -> Tensor:
    """Return the calibration error (a scalar) of the sums that :func:`bin_sums` made; NaN where they hold no sample."""
    count, confidence, correct = sums
    gap = (correct - confidence).abs() / count.clamp(min=1)
    weight = count / count.sum()
    if norm == "l1":
        return (weight * gap).sum()
    if norm == "l2":
        return (weight * gap.square()).sum().sqrt()
    return (gap + 0 * weight).max()  # 0 * weight keeps the NaN of an empty set
