"""Sums that come out the same in any order of addition, hence with atomic additions: in whole numbers of a step.

The steps are so small that they cost less accuracy than float64 sums would.
"""

import math

import torch
from torch import Tensor

_BITS = 61
"""Bits of a sum in steps: a quarter of what int64 holds, since a difference of two sums may be twice as large."""


def step_for(bound: float) -> float:
    """Return the step, a power of two, for sums whose absolute value stays below `bound`."""
    return 2.0 ** (math.frexp(bound)[1] - _BITS) if bound > 0 else 1.0


def add_steps(sums: Tensor, labels: Tensor, values: Tensor, step: float) -> None:
    """Add float64 `values [N, D]` to the sums `[K, D]` of their labels, in int64 steps."""
    sums.index_add_(0, labels, values.div(step).round_().long())


def sums_by(labels: Tensor, values: Tensor, clusters: int) -> Tensor:
    """Return the float64 sums `[K, B]` of the values `[N, B]` of each label; their accuracy is 2^-52 of all values."""
    values = values.double()
    scale = 2.0**52 / values.abs().sum().clamp(min=1e-280)
    sums = torch.zeros(clusters, values.shape[1], dtype=torch.int64, device=values.device)
    return sums.index_add_(0, labels, values.mul(scale).round_().long()).double() / scale
