"""Counting how often each pair of labels occurs together, for labelings of any size and of any kind of label."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Labels = Tensor | npt.ArrayLike

_CHUNK = 1 << 16
"""Points a step: the temporaries of one step stay in the processor's cache."""
_TABLE = 1 << 21
"""Cells of the largest table that is held whole; what would need a larger one is sorted instead."""


class Counts(NamedTuple):
    """The sizes of the cells and of the clusters of two labelings, in no particular order; some may be 0.

    Attributes:
        cells: int64, points of each pair of labels.
        first: int64, points of each label of the first labeling.
        second: int64, of the second.
    """

    cells: Tensor
    first: Tensor
    second: Tensor


class Cells(NamedTuple):
    """The cells of a contingency table that are not empty, in no particular order.

    Attributes:
        first: int64 ``[M]``, the cell's label in the first labeling.
        second: int64 ``[M]``, its label in the second.
        count: int64 ``[M]``, how many points have both.
    """

    first: Tensor
    second: Tensor
    count: Tensor  # type: ignore[assignment]  # over a method of tuple's that nobody calls here


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
    a, b = _pair(first, second)
    if not len(a):
        return Cells(*(torch.zeros(0, dtype=torch.int64, device=a.device) for _ in range(3)))
    one, other = _narrow(a), _narrow(b)
    codes, counts = _sparse(one, other)
    first_code, second_code = codes // other.width + one.low, codes % other.width + other.low
    return Cells(
        one.values[first_code] if one.values is not None else first_code,
        other.values[second_code] if other.values is not None else second_code,
        counts,
    )


def count(first: Labels, second: Labels) -> Counts:
    """The sizes alone, in less memory; arguments and errors are those of :func:`contingency`."""
    a, b = _pair(first, second)
    if not len(a):
        return Counts(*(torch.zeros(0, dtype=torch.int64, device=a.device) for _ in range(3)))
    one, other = _narrow(a), _narrow(b)
    if one.width * other.width > _TABLE:
        codes, counts = _sparse(one, other)
        return count_cells(Cells(codes // other.width, codes % other.width, counts))
    table = _table(one, other).view(one.width, other.width)
    return Counts(table.view(-1), table.sum(dim=1), table.sum(dim=0))


def count_cells(cells: Cells) -> Counts:
    """The sizes of cells, of which no two are equal."""
    marginals = []
    for labels in (cells.first, cells.second):
        values, place = labels.unique(return_inverse=True)
        marginals.append(torch.zeros(len(values), dtype=torch.int64, device=labels.device))
        marginals[-1].scatter_add_(0, place, cells.count)
    return Counts(cells.count, *marginals)


def merge(cells: Cells) -> Cells:
    """Add up the counts of equal cells."""
    if len(cells.count) < 2:
        return cells
    pairs, place = torch.stack([cells.first, cells.second], dim=1).unique(dim=0, return_inverse=True)
    count = torch.zeros(len(pairs), dtype=torch.int64, device=pairs.device).scatter_add_(0, place, cells.count)
    return Cells(pairs[:, 0], pairs[:, 1], count)


class _Narrow(NamedTuple):
    """Labels in a narrow range.

    Attributes:
        codes: ``[N]`` integers from ``low`` to ``low + width - 1``.
        low: See there.
        width: See there.
        values: What the codes stand for; None for themselves.
    """

    codes: Tensor
    low: int
    width: int
    values: Tensor | None


def _pair(first: Labels, second: Labels) -> tuple[Tensor, Tensor]:
    a, b = _integers(first, "first"), _integers(second, "second")
    if a.shape != b.shape:
        raise ValueError(f"both labelings must have the same points, got {len(a)} and {len(b)} labels")
    if a.device != b.device:
        raise ValueError(f"both labelings must be on one device, got {a.device} and {b.device}")
    return a, b


def _narrow(labels: Tensor) -> _Narrow:
    ranges = [chunk.long().aminmax() for chunk in labels.split(_CHUNK)]
    low, high = min(int(r.min) for r in ranges), max(int(r.max) for r in ranges)
    if high - low < _TABLE:
        return _Narrow(labels, low, high - low + 1, None)
    values, codes = labels.unique(return_inverse=True)
    return _Narrow(codes, 0, len(values), values)


def _codes(one: _Narrow, other: _Narrow) -> Iterator[Tensor]:
    """A number for each point's pair of labels, chunk by chunk."""
    for x, y in zip(one.codes.split(_CHUNK), other.codes.split(_CHUNK), strict=True):
        yield (x.long() - one.low).mul_(other.width).add_(y.long()).sub_(other.low)


def _table(one: _Narrow, other: _Narrow) -> Tensor:
    """How often each code occurs."""
    table = torch.zeros(one.width * other.width, dtype=torch.int64, device=one.codes.device)
    small = len(table) <= _CHUNK
    ones = torch.ones(1 if small else min(len(one.codes), _CHUNK), dtype=torch.int64, device=table.device)
    for chunk in _codes(one, other):
        if small:
            table += chunk.bincount(minlength=len(table))
        else:
            table.scatter_add_(0, chunk, ones[: len(chunk)])
    return table


def _sparse(one: _Narrow, other: _Narrow) -> tuple[Tensor, Tensor]:
    """The codes that occur, and how often."""
    if one.width * other.width > _TABLE:
        found, counts = torch.cat(list(_codes(one, other))).unique(return_counts=True)
        return found, counts
    table = _table(one, other)
    found = table.nonzero().squeeze(1)
    return found, table[found]


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
