"""Metrics over batches that hold sums and no sample: torchmetrics ``Metric``s, for training and several processes.

The sums stay float64 when the module that owns the metric is converted to another type; on a device without float64
they stay on the CPU.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torchmetrics import Metric

from .bins import bin_sums, error_from_sums
from .chunks import accumulation_dtype
from .errors import check_rows, classwise_sums, mean_over_classes
from .inputs import Norm, check_options, prepare
from .proper_scores import brier_sums, nll_sums


class SumMetric(Metric):
    """Base: a subclass says what the sums of a batch are, and what follows from them.

    Args:
        shape: Shape of the sums.
        from_logits: Predictions are logits.
        kwargs: Options of ``torchmetrics.Metric``.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    plot_lower_bound: float = 0.0

    sums: Tensor

    def __init__(self, shape: tuple[int, ...], from_logits: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.from_logits = from_logits
        self.add_state("sums", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def _batch_sums(self, preds: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def _value(self, sums: Tensor) -> Tensor:
        raise NotImplementedError

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch: ``preds`` ``[N, K]`` or ``[N]``, ``target`` ``[N]``."""
        scores, labels = prepare(preds, target, self.from_logits)
        self.sums = self.sums + self._batch_sums(scores, labels).to(self.sums)

    def compute(self) -> Tensor:
        """Return the metric of all samples seen, a float64 scalar."""
        if not self.sums[0].any():
            raise ValueError(f"{type(self).__name__} has seen no sample: call update first")
        return self._value(self.sums)

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Any = "") -> Self:
        # torchmetrics would let Module.to(dtype) round the sums, and cannot move float64 to a device without it.
        super()._apply(fn, exclude_state=("sums",))  # type: ignore[arg-type, unused-ignore]  # a str in older torchmetrics
        device = fn(torch.zeros(1)).device
        device = device if accumulation_dtype(device) == torch.float64 else torch.device("cpu")
        self.sums = self.sums.to(device)
        self._defaults["sums"] = self._defaults["sums"].to(device)  # type: ignore[union-attr]  # no list: see __init__
        return self


class CalibrationError(SumMetric):
    """Calibration error over batches: :func:`evaluation.calibration_error` of all samples seen, on all processes.

    It holds three sums a bin (samples, confidence, right answers); the bins have equal width.

    Args:
        n_bins: Number of bins.
        norm: ``"l1"``, ``"l2"`` or ``"max"``.
        from_logits: Predictions are logits.
        kwargs: Options of ``torchmetrics.Metric``.

    Raises:
        ValueError: As :func:`evaluation.calibration_error`; from ``compute``, when no sample was seen.

    Example:
        >>> metric = CalibrationError(n_bins=10)
        >>> metric.update(torch.tensor([[0.8, 0.2], [0.3, 0.7]]), torch.tensor([0, 0]))
        >>> metric.update(torch.tensor([[0.1, 0.9]]), torch.tensor([1]))
        >>> round(metric.compute().item(), 6)
        0.333333
    """

    plot_upper_bound: float = 1.0

    def __init__(self, n_bins: int = 15, norm: Norm = "l1", from_logits: bool = False, **kwargs: Any) -> None:
        check_options(n_bins, norm, "uniform")
        super().__init__((3, int(n_bins)), from_logits, **kwargs)
        self.n_bins, self.norm = int(n_bins), norm

    def _batch_sums(self, preds: Tensor, target: Tensor) -> Tensor:
        return bin_sums(preds, target, self.n_bins, self.from_logits)

    def _value(self, sums: Tensor) -> Tensor:
        return error_from_sums(sums, self.norm)


class ClasswiseCalibrationError(SumMetric):
    """Class-wise calibration error over batches: :func:`evaluation.classwise_calibration_error` of all samples seen.

    It holds three sums for each class and bin; the bins have equal width.

    Args:
        num_classes: Number of classes K.
        n_bins: Number of bins of each class.
        norm: ``"l1"``, ``"l2"`` or ``"max"``, within a class.
        from_logits: Predictions are logits.
        kwargs: Options of ``torchmetrics.Metric``.

    Raises:
        ValueError: As :func:`evaluation.classwise_calibration_error`; for predictions of another number of classes;
            from ``compute``, when no sample was seen.

    Example:
        >>> metric = ClasswiseCalibrationError(num_classes=2, n_bins=1)
        >>> metric.update(torch.tensor([[0.8, 0.2]]), torch.tensor([0]))
        >>> metric.update(torch.tensor([[0.6, 0.4]]), torch.tensor([1]))
        >>> round(metric.compute().item(), 6)
        0.2
    """

    plot_upper_bound: float = 1.0

    def __init__(
        self, num_classes: int, n_bins: int = 15, norm: Norm = "l1", from_logits: bool = False, **kwargs: Any
    ) -> None:
        check_options(n_bins, norm, "uniform")
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
            raise ValueError(f"num_classes must be an integer of at least 2, got {num_classes!r}")
        super().__init__((3, num_classes, int(n_bins)), from_logits, **kwargs)
        self.num_classes, self.n_bins, self.norm = num_classes, int(n_bins), norm

    def _batch_sums(self, preds: Tensor, target: Tensor) -> Tensor:
        check_rows(preds, type(self).__name__)
        if preds.shape[1] != self.num_classes:
            raise ValueError(f"preds must have {self.num_classes} columns (num_classes), got {preds.shape[1]}")
        return classwise_sums(preds, target, self.n_bins, self.from_logits)

    def _value(self, sums: Tensor) -> Tensor:
        return mean_over_classes(sums, self.norm)


class BrierScore(SumMetric):
    """Brier score over batches: :func:`evaluation.brier_score` of all samples seen, on all processes.

    Args:
        from_logits: Predictions are logits.
        kwargs: Options of ``torchmetrics.Metric``.

    Raises:
        ValueError: As :func:`evaluation.brier_score`; from ``compute``, when no sample was seen.

    Example:
        >>> metric = BrierScore()
        >>> metric.update(torch.tensor([[0.5, 0.5]]), torch.tensor([0]))
        >>> metric.update(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
        >>> metric.compute().item()
        0.25
    """

    def __init__(self, from_logits: bool = False, **kwargs: Any) -> None:
        super().__init__((2,), from_logits, **kwargs)

    def _batch_sums(self, preds: Tensor, target: Tensor) -> Tensor:
        return brier_sums(preds, target, self.from_logits)

    def _value(self, sums: Tensor) -> Tensor:
        return sums[1] / sums[0]


class NegativeLogLikelihood(SumMetric):
    """Negative log-likelihood over batches: :func:`evaluation.negative_log_likelihood` of all samples seen.

    Args:
        from_logits: Predictions are logits.
        kwargs: Options of ``torchmetrics.Metric``.

    Raises:
        ValueError: As :func:`evaluation.negative_log_likelihood`; from ``compute``, when no sample was seen.

    Example:
        >>> metric = NegativeLogLikelihood()
        >>> metric.update(torch.tensor([[0.5, 0.5], [0.25, 0.75]]), torch.tensor([0, 1]))
        >>> round(metric.compute().item(), 6)
        0.490415
    """

    def __init__(self, from_logits: bool = False, **kwargs: Any) -> None:
        super().__init__((2,), from_logits, **kwargs)

    def _batch_sums(self, preds: Tensor, target: Tensor) -> Tensor:
        return nll_sums(preds, target, self.from_logits)

    def _value(self, sums: Tensor) -> Tensor:
        return sums[1] / sums[0]
