"""Metrics over batches, as torchmetrics `Metric`s: they hold sums and no samples, and work on several processes."""

from typing import Any

import torch
from torch import Tensor

from ..checks import check_count
from .bins import bin_sums, error_from_sums
from .errors import classwise_sums
from .inputs import Norm, Predictions, check_options
from .proper_scores import brier_sum, log_loss_sum
from .sum_metric import SumMetric


class CalibrationError(SumMetric):
    """Calibration error over batches: `calibration_error` of all samples, on all processes.

    The state is three sums for each bin (samples, confidence, correct predictions); the bins have equal width.

    Args:
        n_bins: Number of bins.
        norm: `"l1"`, `"l2"` or `"max"`.
        from_logits: Whether predictions are logits.
        kwargs: Options of `torchmetrics.Metric`.

    Raises:
        ValueError: As `calibration_error`; from `compute`, if there was no sample.

    Example:
        >>> metric = CalibrationError(n_bins=10)
        >>> metric.update(torch.tensor([[0.8, 0.2], [0.3, 0.7]]), torch.tensor([0, 0]))
        >>> metric.update(torch.tensor([[0.1, 0.9]]), torch.tensor([1]))
        >>> round(metric.compute().item(), 6)
        0.333333
    """

    plot_upper_bound: float = 1.0

    def __init__(self, n_bins: int = 15, norm: Norm = "l1", from_logits: bool = False, **kwargs: Any) -> None:
        check_options(n_bins, norm)
        super().__init__((3, int(n_bins)), from_logits, **kwargs)
        self.n_bins, self.norm = int(n_bins), norm

    def _batch_sums(self, predictions: Predictions) -> Tensor:
        return bin_sums(predictions, self.n_bins)

    def _value(self, sums: Tensor) -> Tensor:
        return error_from_sums(sums, self.norm)


class ClasswiseCalibrationError(SumMetric):
    """Class-wise calibration error over batches: `classwise_calibration_error` of all samples.

    The state is three sums for each class and bin; the bins have equal width. Arguments that are not listed, and
    errors, are those of `CalibrationError`.

    Args:
        num_classes: Number of classes K; predictions of another number are a ValueError.

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
        check_options(n_bins, norm)
        check_count("num_classes", num_classes, least=2)
        super().__init__((3, num_classes, int(n_bins)), from_logits, **kwargs)
        self.num_classes, self.n_bins, self.norm = num_classes, int(n_bins), norm

    def _batch_sums(self, predictions: Predictions) -> Tensor:
        shape = list(predictions.scores.shape)
        if shape[1:] != [self.num_classes]:
            columns = shape[1] if len(shape) == 2 else shape
            raise ValueError(f"preds must have {self.num_classes} columns (num_classes), found {columns}")
        return classwise_sums(predictions, self.n_bins)

    def _value(self, sums: Tensor) -> Tensor:
        return error_from_sums(sums, self.norm).mean()


class MeanMetric(SumMetric):
    """Base of the metrics that are a mean over samples: subclasses implement `_total`, the sum over a batch."""

    def __init__(self, from_logits: bool = False, **kwargs: Any) -> None:
        super().__init__((2,), from_logits, **kwargs)

    def _total(self, predictions: Predictions) -> Tensor:
        raise NotImplementedError

    def _batch_sums(self, predictions: Predictions) -> Tensor:
        total = self._total(predictions)
        return torch.stack([torch.full_like(total, len(predictions)), total])

    def _value(self, sums: Tensor) -> Tensor:
        return sums[1] / sums[0]


class BrierScore(MeanMetric):
    """Brier score over batches: `brier_score` of all samples, on all processes.

    Arguments and errors are those of `CalibrationError`, without `n_bins` and `norm`.

    Example:
        >>> metric = BrierScore()
        >>> metric.update(torch.tensor([[0.5, 0.5]]), torch.tensor([0]))
        >>> metric.update(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
        >>> metric.compute().item()
        0.25
    """

    def _total(self, predictions: Predictions) -> Tensor:
        return predictions.sum(brier_sum)


class NegativeLogLikelihood(MeanMetric):
    """Negative log-likelihood over batches: `negative_log_likelihood` of all samples, on all processes.

    Arguments and errors are those of `CalibrationError`, without `n_bins` and `norm`.

    Example:
        >>> metric = NegativeLogLikelihood()
        >>> metric.update(torch.tensor([[0.5, 0.5], [0.25, 0.75]]), torch.tensor([0, 1]))
        >>> round(metric.compute().item(), 6)
        0.490415
    """

    def _total(self, predictions: Predictions) -> Tensor:
        return predictions.sum(log_loss_sum)
