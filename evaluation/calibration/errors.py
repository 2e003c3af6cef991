"""Calibration error of a classifier, from bins of its confidence.

The samples are sorted into bins by confidence; in each bin the mean confidence is compared with the share of right
answers. With ``N_b`` of the ``N`` samples in bin ``b``::

    gap_b = |accuracy_b - confidence_b|

    l1  (expected calibration error):            sum_b (N_b / N) * gap_b
    l2  (root-mean-square calibration error):    sqrt(sum_b (N_b / N) * gap_b ** 2)
    max (maximum calibration error):             max_b gap_b, over the bins that hold a sample

References: Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning" (AAAI 2015);
Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks" (ICML 2017).

Class-wise calibration error: that of each class's probability, averaged over the classes.

With the probability of class ``k`` in bin ``b`` compared with the share of samples of class ``k`` there::

    error_k = calibration error of p_k as the probability of [label = k]      (norm l1, l2 or max, as for one class)
    class-wise error = (1/K) * sum_k error_k

References: Kull et al., "Beyond temperature scaling: obtaining well-calibrated multiclass probabilities with Dirichlet
calibration" (NeurIPS 2019); Nixon et al., "Measuring calibration in deep learning" (CVPR workshops 2019), who call the
l1 form static calibration error.

Calibration error without the bias of finite bins.

A perfectly calibrated classifier has a positive binned error on any finite sample, since the accuracy of ``N_b``
samples scatters around its mean with the variance ``a (1 - a) / N_b``. Kumar, Liang, Ma, "Verified uncertainty
calibration" (NeurIPS 2019), section 5, take an unbiased estimate of that variance off the square of each bin's gap::

    E^2 = sum_b (N_b / N) * [ (confidence_b - accuracy_b)^2 - accuracy_b (1 - accuracy_b) / (N_b - 1) ]

A bin with one sample has no such estimate and adds nothing.
"""

from typing import overload

import numpy.typing as npt
import torch
from torch import Tensor

from .bins import edges_and_sums, error_from_sums, inner_edges, uniform_bins
from .chunks import accumulation_dtype, sum_over
from .inputs import Norm, Strategy, answer, check_options, prepare


@overload
def calibration_error(
    preds: Tensor,
    target: Tensor | npt.ArrayLike,
    *,
    n_bins: int = ...,
    norm: Norm = ...,
    strategy: Strategy = ...,
    from_logits: bool = ...,
) -> Tensor: ...


@overload
def calibration_error(
    preds: npt.ArrayLike,
    target: Tensor | npt.ArrayLike,
    *,
    n_bins: int = ...,
    norm: Norm = ...,
    strategy: Strategy = ...,
    from_logits: bool = ...,
) -> float: ...


def calibration_error(
    preds: Tensor | npt.ArrayLike,
    target: Tensor | npt.ArrayLike,
    *,
    n_bins: int = 15,
    norm: Norm = "l1",
    strategy: Strategy = "uniform",
    from_logits: bool = False,
) -> Tensor | float:
    """Compute how far a classifier's confidence is from its accuracy.

    The formulas are at the top of this module, the rule for values on a bin edge at that of
    ``evaluation.calibration.bins``. Sums are made in float64, whatever the type of the input (float32 on a
    device without float64).

    Args:
        preds: ``[N, K]``, a row of probabilities for each sample: its confidence is the largest of them, and it is
            right when the class of the largest (the first of equals on a CPU) is the label. Or ``[N]`` for a binary
            classifier, the probability of class 1: the confidence is that probability, and it is compared with the
            share of class 1, as in a calibration curve; so ``p`` is not the same as the columns ``[1 - p, p]``, whose
            confidence is never below 1/2. Torch tensor on any device, or anything that numpy takes for an array.
        target: ``[N]`` integer labels, ``0 <= label < K`` (0 or 1, or booleans, for binary).
        n_bins: Number of bins.
        norm: ``"l1"`` (expected), ``"l2"`` (root mean square) or ``"max"`` (maximum calibration error).
        strategy: ``"uniform"``: bins of equal width on [0, 1]; ``"quantile"``: bins of equal numbers of samples.
        from_logits: ``preds`` are logits: softmax (``[N, K]``) or sigmoid (``[N]``) in float64 comes first.

    Returns:
        The error in [0, 1]: a float64 scalar tensor on the device of ``preds`` when that is a tensor, else a float.

    Raises:
        ValueError: For shapes that do not match, an empty input, NaN, probabilities outside [0, 1] or rows that do not
            sum to 1 (within 1e-3, for 16-bit types 1e-2), labels out of range, an unknown option.

    Example:
        >>> import torch
        >>> preds = torch.tensor([[0.75, 0.25], [0.75, 0.25], [0.25, 0.75], [0.25, 0.75]])
        >>> calibration_error(preds, torch.tensor([0, 0, 0, 1]))  # says 75%, and is right in 3 of 4
        tensor(0., dtype=torch.float64)
        >>> calibration_error([0.9, 0.9, 0.1, 0.1], [1, 0, 0, 0], n_bins=10)
        0.25
    """
    check_options(n_bins, norm, strategy)
    scores, labels = prepare(preds, target, from_logits)
    error = error_from_sums(edges_and_sums(scores, labels, n_bins, strategy, from_logits)[1], norm)
    return error if isinstance(preds, Tensor) else error.item()


def probabilities(preds: Tensor, from_logits: bool) -> Tensor:
    """Return rows of probabilities: softmax in float64, or what is given, 16-bit types as float32."""
    if from_logits:
        return preds.to(accumulation_dtype(preds.device)).softmax(dim=1)
    return preds if preds.dtype == torch.float64 else preds.float()


def check_rows(preds: Tensor, name: str) -> None:
    """Raise a ValueError for the predictions ``[N]`` of a binary classifier."""
    if preds.ndim != 2:
        raise ValueError(f"{name} needs a column for each class [N, K], got {list(preds.shape)}")


def classwise_sums(preds: Tensor, target: Tensor, n_bins: int, from_logits: bool) -> Tensor:
    """Return ``[3, K, n_bins]``: samples, sum of ``p_k``, samples of class ``k`` in each equal-width bin of ``p_k``."""
    classes, work = preds.shape[1], accumulation_dtype(preds.device)
    first = torch.arange(classes, device=preds.device) * n_bins
    edges = inner_edges(n_bins, probabilities(preds[:1], from_logits).dtype).to(preds.device)

    def sums(piece: Tensor, labels: Tensor) -> Tensor:
        p = probabilities(piece, from_logits)
        index = uniform_bins(p, edges) + first
        flat, p = index.flatten(), p.to(work).flatten()
        found = torch.zeros(3, classes * n_bins, dtype=work, device=preds.device)
        found[0].scatter_add_(0, flat, torch.ones_like(p))
        found[1].scatter_add_(0, flat, p)
        own = index.gather(1, labels[:, None]).squeeze(1)
        found[2].scatter_add_(0, own, torch.ones_like(own, dtype=work))
        return found

    return sum_over(sums, preds, target).view(3, classes, n_bins)


def mean_over_classes(sums: Tensor, norm: Norm) -> Tensor:
    """Return the class-wise error of the sums ``[3, K, n_bins]``."""
    return torch.stack([error_from_sums(of_class, norm) for of_class in sums.unbind(dim=1)]).mean()


def classwise_calibration_error(
    preds: Tensor | npt.ArrayLike,
    target: Tensor | npt.ArrayLike,
    *,
    n_bins: int = 15,
    norm: Norm = "l1",
    strategy: Strategy = "uniform",
    from_logits: bool = False,
) -> Tensor | float:
    """Compute the calibration error of all K probabilities, not of the largest only.

    Args:
        preds: ``[N, K]`` probabilities (or logits), see :func:`evaluation.calibration_error`.
        target: ``[N]`` integer labels.
        n_bins: Number of bins of each class.
        norm: ``"l1"``, ``"l2"`` or ``"max"``, within a class.
        strategy: ``"uniform"`` or ``"quantile"``: equal width, or equal numbers of samples for each class.
        from_logits: ``preds`` are logits.

    Returns:
        The mean of the classes' errors, a float64 scalar tensor for a tensor, else a float.

    Raises:
        ValueError: As :func:`evaluation.calibration_error`; for ``preds`` ``[N]``.

    Example:
        >>> round(classwise_calibration_error([[0.8, 0.2], [0.6, 0.4]], [0, 1], n_bins=1), 6)
        0.2
    """
    check_options(n_bins, norm, strategy)
    scores, labels = prepare(preds, target, from_logits)
    check_rows(scores, "classwise_calibration_error")
    if strategy == "uniform":
        return answer(mean_over_classes(classwise_sums(scores, labels, n_bins, from_logits), norm), preds)
    p = probabilities(scores, from_logits)
    pairs = ((p[:, k].contiguous(), (labels == k).long()) for k in range(p.shape[1]))
    sums = [edges_and_sums(column, own, n_bins, strategy, False)[1] for column, own in pairs]
    return answer(mean_over_classes(torch.stack(sums, dim=1), norm), preds)


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
