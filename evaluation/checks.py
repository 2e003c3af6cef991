"""Argument checks that all of `evaluation` shares: arrays and counts."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = Tensor | npt.ArrayLike
"""A torch tensor on any device, or anything that numpy converts to an array."""


def as_tensor(values: Array) -> Tensor:
    """Return a tensor without a gradient, or raise a ValueError for anything but numbers."""
    if isinstance(values, Tensor):
        return values.detach()
    array = np.require(values, requirements=["C", "W"])
    if array.dtype.kind not in "fiub":
        raise ValueError(f"expected an array of numbers, found one of {array.dtype}")
    return torch.from_numpy(array)


def check_count(name: str, value: Any, least: int = 1) -> int:
    """Return an integer of at least `least`, or raise a ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        wanted = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ValueError(f"{name} must be {wanted}, found {value!r}")
    return int(value)


def check_counts(**counts: Any) -> None:
    """Raise a ValueError for an argument that is not a positive integer."""
    for name, value in counts.items():
        check_count(name, value)
