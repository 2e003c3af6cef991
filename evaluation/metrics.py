"""Calibration error of a classifier, from equal-width bins of its confidence.

The samples are sorted into bins by confidence; in each bin the mean confidence is compared with the share of right
answers. With ``N_b`` of the ``N`` samples in bin ``b``::

    gap_b = |accuracy_b - confidence_b|

    l1  (expected calibration error):            sum_b (N_b / N) * gap_b
    l2  (root-mean-square calibration error):    sqrt(sum_b (N_b / N) * gap_b ** 2)
    max (maximum calibration error):             max_b gap_b, over the bins that hold a sample

References: Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning" (AAAI 2015);
Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks" (ICML 2017).

Bin ``b`` of ``n`` is ``(b/n, (b+1)/n]``, closed on the right as in Guo et al.; a confidence of exactly 0 is in the
first bin. A value is taken as the number that it is: a float32 is compared with the real number ``k/n`` (float32 0.1 is
a little above 1/10, so it lies in the second bin of ten), hence its bin does not change when it is converted to
float64. For float64 values the edge is the float64 nearest to ``k/n``, so that ``k / n`` written in Python lies in bin
``k - 1``.
"""

from collections.abc import Callable
from typing import Any, overload

import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import Metric

from .inputs import Norm, Strategy, check_options, prepare

# Rows a pass, in elements: on a CPU the float64 temporaries of one pass then stay in the cache (3 times as fast).
_CHUNK = {"cpu": 1 << 17}
_CHUNK_ELSEWHERE = 1 << 24


def accumulation_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on the devices that have none (Apple's MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64


def inner_edges(n_bins: int, dtype: torch.dtype) -> Tensor:
    """Return the edges ``1/n .. (n-1)/n``, each the largest number of ``dtype`` that is not above it.

    Rounded down so, ``c <= edge`` has the same answer in float32 as with the float64 edge.
    """
    edges = torch.tensor([k / n_bins for k in range(1, n_bins)], dtype=torch.float64)
    rounded = edges.to(dtype)
    below = torch.nextafter(rounded, torch.full_like(rounded, -1.0))
    return torch.where(rounded.double() > edges, below, rounded)


def confidence_and_correct(preds: Tensor, target: Tensor, from_logits: bool) -> tuple[Tensor, Tensor]:
    """Return per sample the confidence and whether the answer was right, see :func:`calibration_error`."""
    work = accumulation_dtype(preds.device)
    if preds.ndim == 1:
        return (preds.to(work).sigmoid() if from_logits else preds), target == 1
    top, prediction = preds.max(dim=1)
    if from_logits:
        top = (preds.to(work) - top.to(work)[:, None]).exp_().sum(dim=1).reciprocal_()
    return top, prediction == target


def bin_sums(preds: Tensor, target: Tensor, n_bins: int, from_logits: bool) -> Tensor:
    """Return ``[3, n_bins]``: samples, sum of confidence, sum of right answers in each bin. Arguments are not checked.

    Sums of two sets add up to the sums of both. A NaN among the predictions becomes a NaN in the last bin.
    """
    device, work = preds.device, accumulation_dtype(preds.device)
    # float32 holds every float16 and bfloat16, so that this conversion moves no confidence across an edge.
    dtype = work if from_logits or preds.dtype == torch.float64 else torch.float32
    edges = inner_edges(n_bins, dtype).to(device)
    sums = torch.zeros(3 * n_bins, dtype=work, device=device)
    rows = max(1, _CHUNK.get(device.type, _CHUNK_ELSEWHERE) // max(1, preds[:1].numel()))
    for chunk, labels in zip(preds.split(rows), target.split(rows), strict=True):
        confidence, correct = confidence_and_correct(chunk, labels, from_logits)
        confidence = confidence.to(dtype)
        bins = torch.bucketize(confidence, edges)
        index = torch.cat([bins, bins + n_bins, bins + 2 * n_bins])
        ones = torch.ones_like(confidence, dtype=work)
        sums.scatter_add_(0, index, torch.cat([ones, confidence.to(work), correct.to(work)]))
    return sums.view(3, n_bins)


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

    The formulas and the rule for values on a bin edge are at the top of this module. Sums are made in float64, whatever
    the type of the input (float32 on a device without float64).

    Args:
        preds: ``[N, K]``, a row of probabilities for each sample: its confidence is the largest of them, and it is
            right when the class of the largest (the first of equals on a CPU) is the label. Or ``[N]`` for a binary
            classifier, the probability of class 1: the confidence is that probability, and it is compared with the
            share of class 1, as in a calibration curve; so ``p`` is not the same as the columns ``[1 - p, p]``, whose
            confidence is never below 1/2. Torch tensor on any device, or anything that numpy takes for an array.
        target: ``[N]`` integer labels, ``0 <= label < K`` (0 or 1, or booleans, for binary).
        n_bins: Number of bins.
        norm: ``"l1"`` (expected), ``"l2"`` (root mean square) or ``"max"`` (maximum calibration error).
        strategy: ``"uniform"``: bins of equal width on [0, 1].
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
    error = error_from_sums(bin_sums(scores, labels, n_bins, from_logits), norm)
    return error if isinstance(preds, Tensor) else error.item()


class CalibrationError(Metric):
    """Calibration error over batches: :func:`calibration_error` of all samples seen, on all processes.

    It holds three float64 sums a bin (samples, confidence, right answers) and no sample. The sums stay float64 when the
    module that owns the metric is converted to another type; on a device without float64 they stay on the CPU.

    Args:
        n_bins: Number of bins.
        norm: ``"l1"``, ``"l2"`` or ``"max"``.
        strategy: ``"uniform"``.
        from_logits: Predictions are logits.
        kwargs: Options of ``torchmetrics.Metric``.

    Raises:
        ValueError: As :func:`calibration_error`; from ``compute``, when no sample was seen.

    Example:
        >>> import torch
        >>> metric = CalibrationError(n_bins=10)
        >>> metric.update(torch.tensor([[0.8, 0.2], [0.3, 0.7]]), torch.tensor([0, 0]))
        >>> metric.update(torch.tensor([[0.1, 0.9]]), torch.tensor([1]))
        >>> round(metric.compute().item(), 6)
        0.333333
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    plot_lower_bound: float = 0.0
    plot_upper_bound: float = 1.0

    sums: Tensor

    def __init__(
        self,
        n_bins: int = 15,
        norm: Norm = "l1",
        strategy: Strategy = "uniform",
        from_logits: bool = False,
        **kwargs: Any,
    ) -> None:
        check_options(n_bins, norm, strategy)
        super().__init__(**kwargs)
        self.n_bins, self.norm, self.strategy, self.from_logits = int(n_bins), norm, strategy, from_logits
        self.add_state("sums", torch.zeros(3, self.n_bins, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch: ``preds`` ``[N, K]`` or ``[N]``, ``target`` ``[N]``."""
        scores, labels = prepare(preds, target, self.from_logits)
        batch = bin_sums(scores, labels, self.n_bins, self.from_logits)
        self.sums = self.sums + batch.to(self.sums)

    def compute(self) -> Tensor:
        """Return the calibration error of all samples seen, a float64 scalar."""
        if not self.sums[0].any():
            raise ValueError("CalibrationError has seen no sample: call update first")
        return error_from_sums(self.sums, self.norm)

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Any = "") -> "CalibrationError":
        # torchmetrics would let Module.to(dtype) round the sums, and cannot move float64 to a device without it.
        super()._apply(fn, exclude_state=("sums",))  # type: ignore[arg-type, unused-ignore]
        device = fn(torch.zeros(1)).device
        device = device if accumulation_dtype(device) == torch.float64 else torch.device("cpu")
        self.sums = self.sums.to(device)
        self._defaults["sums"] = self._defaults["sums"].to(device)  # type: ignore[union-attr]
        return self
