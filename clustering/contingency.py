"""Counting how often each pair of labels occurs together, for labelings of any size and of any kind of label."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Labels = Tensor | npt.ArrayLike

_CHUNK = 1 << 17
"""Points a step: the temporaries of one step stay in the processor's cache."""
_TABLE = 1 << 21
"""Cells of the largest table that is held whole; what would need a larger one is sorted instead."""


class Cells(NamedTuple):
    """The cells of a contingency table that are not empty, in no particular order.

    Attributes:
        first: int64 ``[M]``, the cell's label in the first labeling.
        second: int64 ``[M]``, its label in the second.
        count: int64 ``[M]``, how many points have both.
    """

    first: Tensor
    second: Tensor
    count: Tensor  # type: ignore[assignment]


def contingency(first: Labels, second: Labels) -> Cells:
    """Count the pairs of labels.

    Integers (and booleans) keep their values in the result; labels of another kind are numbered in sorted order.

    Args:
        first: ``[N]`` labels: a tensor on any device, or anything that numpy takes for an array.
        second: ``[N]`` labels of the same points.

    Returns:
        The cells that are not empty, on the device of the labels.

    Raises:
        ValueError: For labels that are not one-dimensional or not equally many, and for NaN.

    Example:
        >>> contingency([0, 0, 1, 1], ["a", "a", "a", "b"]).count
        tensor([2, 1, 1])
    """
    a, b = _integers(first, "first"), _integers(second, "second")
    if a.shape != b.shape:
        raise ValueError(f"both labelings must have the same points, got {len(a)} and {len(b)} labels")
    if a.device != b.device:
        raise ValueError(f"both labelings must be on one device, got {a.device} and {b.device}")
    if not len(a):
        return Cells(*(torch.zeros(0, dtype=torch.int64, device=a.device) for _ in range(3)))
    a, values_a, low_a, width_a = _narrow(a)
    b, values_b, low_b, width_b = _narrow(b)
    codes, counts = _count(a, b, low_a, low_b, width_a, width_b)
    first_code, second_code = codes // width_b + low_a, codes % width_b + low_b
    return Cells(
        values_a[first_code] if values_a is not None else first_code,
        values_b[second_code] if values_b is not None else second_code,
        counts,
    )


def merge(cells: Cells) -> Cells:
    """Add up the counts of equal cells."""
    if len(cells.count) < 2:
        return cells
    pairs, place = torch.stack([cells.first, cells.second], dim=1).unique(dim=0, return_inverse=True)
    count = torch.zeros(len(pairs), dtype=torch.int64, device=pairs.device).scatter_add_(0, place, cells.count)
    return Cells(pairs[:, 0], pairs[:, 1], count)


def _count(a: Tensor, b: Tensor, low_a: int, low_b: int, width_a: int, width_b: int) -> tuple[Tensor, Tensor]:
    """Count the codes ``(a - low_a) * width_b + (b - low_b)``: those that occur, and how often."""
    chunks = zip(a.split(_CHUNK), b.split(_CHUNK), strict=True)
    codes = ((x.long() - low_a).mul_(width_b).add_(y.long()).sub_(low_b) for x, y in chunks)
    if width_a * width_b > _TABLE:
        found, counts = torch.cat(list(codes)).unique(return_counts=True)
        return found, counts
    table = torch.zeros(width_a * width_b, dtype=torch.int64, device=a.device)
    small = len(table) <= _CHUNK
    ones = torch.ones(1 if small else min(len(a), _CHUNK), dtype=torch.int64, device=a.device)
    for chunk in codes:
        if small:
            table += chunk.bincount(minlength=len(table))
        else:
            table.scatter_add_(0, chunk, ones[: len(chunk)])
    found = table.nonzero().squeeze(1)
    return found, table[found]


def _narrow(labels: Tensor) -> tuple[Tensor, Tensor | None, int, int]:
    """Labels with the values they stand for (None: themselves), the lowest, and the width of their range."""
    ranges = [chunk.long().aminmax() for chunk in labels.split(_CHUNK)]
    low, high = min(int(r.min) for r in ranges), max(int(r.max) for r in ranges)
    if high - low < _TABLE:
        return labels, None, low, high - low + 1
    values, codes = labels.unique(return_inverse=True)
    return codes, values, 0, len(values)


def _integers(labels: Labels, name: str) -> Tensor:
    """The labels as a tensor of integers, without a copy where they are integers."""
    array: Any = labels.detach() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.ndim != 1:
        raise ValueError(f"{name} labels must be one-dimensional, got shape {list(array.shape)}")
    if isinstance(array, Tensor):
        if not array.is_floating_point() and not array.is_complex():
            return array
        array = array.cpu().float().numpy()
    elif array.dtype.kind == "b" or (array.dtype.kind in "iu" and array.dtype != np.uint64):
        return torch.from_numpy(np.require(array, requirements=["W", "A"]) if not array.flags.writeable else array)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} labels must not be NaN or infinite")
    codes = torch.from_numpy(np.unique(array, return_inverse=True)[1])
    return codes.to(labels.device) if isinstance(labels, Tensor) else codes
