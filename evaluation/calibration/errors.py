"""Calibration error of a classifier, from bins of its confidence.

The samples are sorted into bins by confidence; in each bin the mean confidence is compared with the share of right
answers. With ``N_b`` of the ``N`` samples in bin ``b``::

    gap_b = |accuracy_b - confidence_b|

    l1  (expected calibration error):            sum_b (N_b / N) * gap_b
    l2  (root-mean-square calibration error):    sqrt(sum_b (N_b / N) * gap_b ** 2)
    max (maximum calibration error):             max_b gap_b, over the bins that hold a sample

References: Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning" (AAAI 2015);
Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks" (ICML 2017).
"""

from typing import overload

import numpy.typing as npt
from torch import Tensor

from .bins import edges_and_sums, error_from_sums
from .inputs import Norm, Strategy, check_options, prepare


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
