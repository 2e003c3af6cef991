"""A torchmetrics `Metric` whose sums stay float64: the one file here with private names of torch and torchmetrics."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.plot import plot_single_or_multi_val

from .inputs import Predictions, accumulation_dtype, prepare


class SumMetric(Metric):
    """Base of metrics with one state, `sums` of the given shape; `kwargs` are options of `torchmetrics.Metric`.

    The sums remain float64 when the module that owns the metric is converted to another dtype; on a device without
    float64 they remain on the CPU. Subclasses implement `_batch_sums` (of a batch) and `_value` (of all sums).
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

    @abstractmethod
    def _batch_sums(self, predictions: Predictions) -> Tensor:
        """Return the sums of a batch."""

    @abstractmethod
    def _value(self, sums: Tensor) -> Tensor:
        """Return the metric of the sums."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch: `preds` `[N, K]` or `[N]`, `target` `[N]`; N may be 0."""
        if len(preds) == len(target) == 0:
            return
        self.sums = self.sums + self._batch_sums(prepare(preds, target, self.from_logits)).to(self.sums)

    def forward(self, preds: Tensor, target: Tensor) -> Any:
        """Add a batch and return its value, NaN for an empty one."""
        return super().forward(preds, target) if len(preds) or len(target) else self.sums.new_tensor(float("nan"))

    def compute(self) -> Tensor:
        """Return the metric of all samples so far, a float64 scalar."""
        if not self.sums[0].any():
            raise ValueError(f"{type(self).__name__} has no sample yet: call update first")
        return self._value(self.sums)

    def plot(self, val: Any = None, ax: Any = None) -> tuple[Any, Any]:
        """Draw the values `val` (one or several, by default that of `compute`); return Matplotlib's figure and axes."""
        return plot_single_or_multi_val(
            self.compute() if val is None else val,
            ax=ax,
            higher_is_better=self.higher_is_better,
            name=type(self).__name__,
            lower_bound=self.plot_lower_bound,
            upper_bound=self.plot_upper_bound,
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Any = "") -> Self:
        # torchmetrics would let Module.to(dtype) round the sums, and cannot move float64 to a device without it.
        super()._apply(fn, exclude_state=("sums",))  # type: ignore[arg-type, unused-ignore]  # a str in older torchmetrics
        device = fn(torch.zeros(1)).device
        device = device if accumulation_dtype(device) == torch.float64 else torch.device("cpu")
        self.sums = self.sums.to(device)
        self._defaults["sums"] = self._defaults["sums"].to(device)  # type: ignore[union-attr]  # no list: see __init__
        return self
