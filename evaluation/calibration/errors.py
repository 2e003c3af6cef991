"""Calibration errors of a classifier, from bins of its confidence.

Calibration error. In each bin the mean confidence is compared with the accuracy. With `N_b` of the `N`
samples in bin `b`::

    gap_b = |accuracy_b - confidence_b|

    l1  (expected calibration error):            sum_b (N_b / N) * gap_b
    l2  (root-mean-square calibration error):    sqrt(sum_b (N_b / N) * gap_b ** 2)
    max (maximum calibration error):             max_b gap_b, over the bins that hold a sample

Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning" (AAAI 2015); Guo, Pleiss,
Sun, Weinberger, "On calibration of modern neural networks" (ICML 2017).

Class-wise calibration error. Not only the largest probability is used: the probability of each class `k` is compared
with the share of samples of class `k`, and the errors are averaged over the classes::

    error_k = calibration error of p_k as the probability of [label = k]      (norm l1, l2 or max)
    class-wise error = (1/K) * sum_k error_k

Kull et al., "Beyond temperature scaling: obtaining well-calibrated multiclass probabilities with Dirichlet calibration"
(NeurIPS 2019); Nixon et al., "Measuring calibration in deep learning" (CVPR workshops 2019), who call the l1 form
static calibration error.

Debiased calibration error. A perfectly calibrated classifier has a positive binned error on any finite sample, because
the accuracy of `N_b` samples scatters around its mean with variance `a (1 - a) / N_b`. Kumar, Liang, Ma, "Verified
uncertainty calibration" (NeurIPS 2019), section 5, subtract an unbiased estimate of that variance from the squared
gap::

    E^2 = sum_b (N_b / N) * [ (confidence_b - accuracy_b)^2 - accuracy_b (1 - accuracy_b) / (N_b - 1) ]

A bin with one sample has no such estimate and contributes nothing.
"""

import torch
from torch import Tensor

from ..checks import Array
from .bins import column_sums, edges_and_sums, error_from_sums
from .inputs import Norm, Predictions, Strategy, check_options, like, prepare


def calibration_error(
    preds: Array,
    target: Array,
    *,
    n_bins: int = 15,
    norm: Norm = "l1",
    strategy: Strategy = "uniform",
    from_logits: bool = False,
) -> Tensor | float:
    """Compute how far a classifier's confidence is from its accuracy.

    The formulas are in `evaluation.calibration.errors`, the rule for values on a bin edge in
    `evaluation.calibration.bins`. Sums are float64 for every input dtype (float32 on a device without float64).

    Args:
        preds: `[N, K]`, a row of probabilities for each sample: its confidence is the largest of them, and it is right
            if the class of the largest (the first of equals on a CPU) is the label. Or `[N]` for a binary classifier,
            the probability of class 1: the confidence is that probability, and it is compared with the share of class
            1, as in a calibration curve; so `p` differs from the columns `[1 - p, p]`, whose confidence is never below
            1/2. A torch tensor on any device, or anything that numpy converts to an array.
        target: `[N]` integer labels, `0 <= label < K` (0 or 1, or booleans, for binary).
        n_bins: Number of bins.
        norm: `"l1"` (expected), `"l2"` (root mean square) or `"max"` (maximum calibration error).
        strategy: `"uniform"` for bins of equal width on [0, 1], `"quantile"` for bins of equal numbers of samples.
        from_logits: Whether `preds` are logits, to which softmax (`[N, K]`) or sigmoid (`[N]`) is applied in float64.

    Returns:
        The error in [0, 1]: a float64 scalar tensor on the device of `preds` if that is a tensor, otherwise a float.

    Raises:
        ValueError: For shapes that do not match, an empty input, NaN, probabilities outside [0, 1] or rows that do not
            sum to 1 (within 1e-3, for 16-bit types 1e-2), labels out of range, an unknown option.

    Example:
        >>> import torch
        >>> preds = torch.tensor([[0.75, 0.25], [0.75, 0.25], [0.25, 0.75], [0.25, 0.75]])
        >>> calibration_error(preds, torch.tensor([0, 0, 0, 1]))  # confidence 75%, right in 3 of 4
        tensor(0., dtype=torch.float64)
        >>> calibration_error([0.9, 0.9, 0.1, 0.1], [1, 0, 0, 0], n_bins=10)
        0.25
    """
    return like(binned_error(prepare(preds, target, from_logits), n_bins, norm, strategy), preds)


def binned_error(
    predictions: Predictions, n_bins: int = 15, norm: Norm = "l1", strategy: Strategy = "uniform"
) -> Tensor:
    """Compute `calibration_error` of checked predictions."""
    check_options(n_bins, norm, strategy)
    return error_from_sums(edges_and_sums(predictions, n_bins, strategy)[1], norm)


def classwise_calibration_error(
    preds: Array,
    target: Array,
    *,
    n_bins: int = 15,
    norm: Norm = "l1",
    strategy: Strategy = "uniform",
    from_logits: bool = False,
) -> Tensor | float:
    """Compute the mean calibration error of all K probabilities, not of the largest only.

    Arguments, result and errors are those of `calibration_error`, except that `preds` must be `[N, K]`. Each class has
    bins of its own, and `norm` is that within a class.

    Example:
        >>> round(classwise_calibration_error([[0.8, 0.2], [0.6, 0.4]], [0, 1], n_bins=1), 6)
        0.2
    """
    return like(classwise_error(prepare(preds, target, from_logits), n_bins, norm, strategy), preds)


def classwise_error(
    predictions: Predictions, n_bins: int = 15, norm: Norm = "l1", strategy: Strategy = "uniform"
) -> Tensor:
    """Compute `classwise_calibration_error` of checked predictions."""
    check_options(n_bins, norm, strategy)
    if predictions.scores.ndim != 2:
        shape = list(predictions.scores.shape)
        raise ValueError(f"classwise_calibration_error needs a column for each class [N, K], found {shape}")
    if strategy == "uniform":
        return error_from_sums(classwise_sums(predictions, n_bins), norm).mean()
    pairs = zip(*(columns.unbind(dim=1) for columns in predictions.columns()), strict=True)
    classes = (Predictions(p.contiguous(), label, from_logits=False) for p, label in pairs)
    sums = torch.stack([edges_and_sums(one, n_bins, strategy)[1] for one in classes], dim=1)
    return error_from_sums(sums, norm).mean()


def classwise_sums(predictions: Predictions, n_bins: int) -> Tensor:
    """Return `[3, K, n_bins]`: samples, sum of `p_k` and samples of class `k` in each equal-width bin of `p_k`."""
    return column_sums(predictions, n_bins, lambda p, label: (torch.ones_like(p), p, label))


def debiased_calibration_error(
    preds: Array,
    target: Array,
    *,
    n_bins: int = 15,
    strategy: Strategy = "quantile",
    squared: bool = False,
    from_logits: bool = False,
) -> Tensor | float:
    """Estimate the root-mean-square calibration error of the bins; its square is unbiased.

    Arguments that are not listed, and errors, are those of `calibration_error`.

    Args:
        strategy: `"quantile"` (the paper's) or `"uniform"`.
        squared: Return `E^2`, which is unbiased, and negative about half the time for a calibrated classifier.

    Returns:
        `sqrt(max(E^2, 0))`, or `E^2`; a float64 scalar tensor for a tensor, otherwise a float.

    Example:
        >>> round(debiased_calibration_error([0.9] * 4, [1, 1, 0, 0], n_bins=1, squared=True), 6)  # 0.4^2 - 0.25 / 3
        0.076667
    """
    return like(debiased_error(prepare(preds, target, from_logits), n_bins, strategy, squared), preds)


def debiased_error(
    predictions: Predictions, n_bins: int = 15, strategy: Strategy = "quantile", squared: bool = False
) -> Tensor:
    """Compute `debiased_calibration_error` of checked predictions."""
    check_options(n_bins, strategy=strategy)
    count, confidence, correct = edges_and_sums(predictions, n_bins, strategy)[1]
    samples = count.clamp(min=1)
    accuracy = correct / samples
    gap = ((correct - confidence) / samples).square() - accuracy * (1 - accuracy) / (count - 1).clamp(min=1)
    square = (count / count.sum() * gap * (count > 1)).sum()
    return square if squared else square.clamp(min=0).sqrt()
