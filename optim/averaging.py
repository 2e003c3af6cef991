"""Exponential moving average of lists of tensors."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._common import launches
from ._table import Plan, has_kernels


class MovingAverage:
    """Move averages towards tensors: `average <- decay * average + (1 - decay) * tensor`.

    The `multi_avg_fn` of `torch.optim.swa_utils.AveragedModel`. On CUDA all tensors take one launch of a Triton kernel
    for each pair of types (float32, bfloat16), which reads and writes each element once; elsewhere, and
    without Triton, torch's operations run. Integers are copied. Keep the object: it holds the tensors' addresses.

    Args:
        decay: Share of the old average that is kept, in [0, 1].

    Raises:
        ValueError: If `decay` is out of range.

    Example:
        >>> average = [torch.zeros(2)]
        >>> MovingAverage(0.75)(average, [torch.ones(2)])
        >>> average
        [tensor([0.2500, 0.2500])]
    """

    def __init__(self, decay: float) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be between 0 and 1, found {decay}")
        self.decay = decay
        self._plan: Plan | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied and pickled, without addresses."""
        return {"decay": self.decay, "_plan": None}

    @torch.no_grad()
    def __call__(self, averages: Sequence[Tensor], tensors: Sequence[Tensor], count: Any = None) -> None:
        """Move `averages` towards `tensors` of the same shapes, in place; `count` is what torch passes, and ignored."""
        pairs = [(average, tensor.to(average.device)) for average, tensor in zip(averages, tensors, strict=True)]
        if any(has_kernels(average) for average, _ in pairs) and launches() is not None:
            lists = [list(values) for values in zip(*pairs, strict=True)]
            if self._plan is None or not self._plan.matches(*lists):
                self._plan = Plan(lists, (), launches().AverageLists)
            for part, _ in self._plan.parts:
                part.step(1.0 - self.decay)
            pairs = [pairs[i] for i in self._plan.others]
        for average, tensor in pairs:
            if average.is_floating_point():
                average.lerp_(tensor.to(average.dtype), 1 - self.decay)
            else:
                average.copy_(tensor)
