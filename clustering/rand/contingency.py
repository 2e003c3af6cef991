"""Contingency of two labelings: how often each pair of labels occurs, at any size and for any kind of label."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Labels = Tensor | npt.ArrayLike

_CHUNK = 1 << 15
"""Points per step: its temporaries stay in the processor's cache, and torch takes one thread for so few. With two, that
wait for each other in every operation, 10,000,000 points took 8 to 80 times as long beside other work."""
_GPU_CHUNK = 1 << 24
"""The same on a GPU, where every step is a launch."""
_TABLE = 1 << 21
"""Number of cells of the largest dense table; beyond it the pairs are sorted instead."""


class Counts(NamedTuple):
    """Sizes in a contingency table, int64 in no particular order; some may be 0."""

    cells: Tensor  # number of points per pair of labels
    first: Tensor  # number of points per label of the first labeling
    second: Tensor


class Cells(NamedTuple):
    """The `M` nonempty cells of a contingency table, int64 `[M]` in no particular order."""

    first: Tensor  # label in the first labeling
    second: Tensor
    count: Tensor  # type: ignore[assignment]  # of the points with both; shadows tuple.count, which is not used


def contingency(first: Labels, second: Labels) -> Cells:
    """Return the nonempty cells of two labelings, on the device of the labels.

    Integers (and booleans) keep their values in the result; other labels are numbered in sorted order.

    Example:
        >>> contingency([0, 0, 1, 1], ["a", "a", "a", "b"]).count
        tensor([2, 1, 1])
    """
    one, other = _codes_of_both(first, second)
    pairs, counts = _sparse(one, other)
    first_code, second_code = pairs // other.width + one.low, pairs % other.width + other.low
    return Cells(
        one.values[first_code] if one.values is not None else first_code,
        other.values[second_code] if other.values is not None else second_code,
        counts,
    )


def count(first: Labels, second: Labels) -> Counts:
    """Return the sizes alone, which takes less memory; arguments and errors are those of `contingency`."""
    one, other = _codes_of_both(first, second)
    if one.width * other.width > _TABLE:
        pairs, counts = _sparse(one, other)
        return count_cells(Cells(pairs // other.width, pairs % other.width, counts))
    table = _table(one, other).view(one.width, other.width)
    return Counts(table.view(-1), table.sum(dim=1), table.sum(dim=0))


def count_cells(cells: Cells) -> Counts:
    """Return the sizes from cells that are all different."""
    return Counts(cells.count, *(_add_up(labels, cells.count)[1] for labels in cells[:2]))


def merge(cells: Cells) -> Cells:
    """Add up the counts of equal cells."""
    if len(cells.count) < 2:
        return cells
    pairs, count = _add_up(torch.stack([cells.first, cells.second], dim=1), cells.count, dim=0)
    return Cells(pairs[:, 0], pairs[:, 1], count)


def _add_up(keys: Tensor, counts: Tensor, dim: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the different keys and the sum of the counts of each."""
    different, place = keys.unique(dim=dim, return_inverse=True)
    return different, counts.new_zeros(len(different)).scatter_add_(0, place, counts)


class _Codes(NamedTuple):
    """Labels `[N]` as integers from `low` to `low + width - 1`, and their values if the codes are not the labels."""

    codes: Tensor
    low: int
    width: int
    values: Tensor | None


def _codes_of_both(first: Labels, second: Labels) -> tuple[_Codes, _Codes]:
    a, b = _integers(first, "first"), _integers(second, "second")
    if a.shape != b.shape:
        raise ValueError(f"both labelings must have the same points, found {len(a)} and {len(b)} labels")
    if a.device != b.device:
        raise ValueError(f"both labelings must be on one device, found {a.device} and {b.device}")
    return _codes_of(a), _codes_of(b)


def _codes_of(labels: Tensor) -> _Codes:
    if not len(labels):
        return _Codes(labels, 0, 1, None)
    ranges = [chunk.long().aminmax() for chunk in _split(labels)]
    low, high = min(int(r.min) for r in ranges), max(int(r.max) for r in ranges)
    if high - low < _TABLE:
        return _Codes(labels, low, high - low + 1, None)
    values, codes = labels.unique(return_inverse=True)
    return _Codes(codes, 0, len(values), values)


def _split(labels: Tensor) -> tuple[Tensor, ...]:
    return labels.split(_GPU_CHUNK if labels.is_cuda else _CHUNK)


def _pairs(one: _Codes, other: _Codes) -> Iterator[Tensor]:
    """Yield a number for each point's pair of labels, chunk by chunk."""
    for x, y in zip(_split(one.codes), _split(other.codes), strict=True):
        yield (x.long() - one.low).mul_(other.width).add_(y.long()).sub_(other.low)


def _table(one: _Codes, other: _Codes) -> Tensor:
    """Return the number of points of every possible pair."""
    table = torch.zeros(one.width * other.width, dtype=torch.int64, device=one.codes.device)
    small = len(table) <= _CHUNK
    ones = torch.ones(1 if small else len(_split(one.codes)[0]), dtype=torch.int64, device=table.device)
    for chunk in _pairs(one, other):
        if small:
            table += chunk.bincount(minlength=len(table))
        else:
            table.scatter_add_(0, chunk, ones[: len(chunk)])
    return table


def _sparse(one: _Codes, other: _Codes) -> tuple[Tensor, Tensor]:
    """Return the pairs that occur, and the number of points of each."""
    if one.width * other.width > _TABLE:
        pairs, counts = torch.cat(list(_pairs(one, other))).unique(return_counts=True)
        return pairs, counts
    table = _table(one, other)
    pairs = table.nonzero().squeeze(1)
    return pairs, table[pairs]


def _integers(labels: Labels, name: str) -> Tensor:
    """Return the labels as a tensor of integers, without a copy where they are native integers."""
    array = _array(labels, name)
    if array.ndim != 1:
        raise ValueError(f"{name} labels must be one-dimensional, found shape {list(array.shape)}")
    if isinstance(array, Tensor):
        return array
    if not isinstance(labels, Tensor) and np.ma.is_masked(labels):
        raise ValueError(f"{name} labels must all be there, found a masked one: leave out such points")
    if array.dtype.kind == "b" or (array.dtype.kind in "iu" and array.dtype != np.uint64):
        readable = array.flags.behaved and array.dtype.isnative and array.strides[0] >= 0  # by torch
        return torch.from_numpy(array if readable else array.astype(array.dtype.newbyteorder("=")))
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        raise ValueError(f"{name} labels must be finite, found NaN or infinity")
    if array.dtype.kind in "mM" and np.isnat(array).any():
        raise ValueError(f"{name} labels must all be there, found NaT: leave out such points")
    if array.dtype.kind in "OT":
        codes = torch.tensor(_number(array.tolist(), name), dtype=torch.int64)
    else:
        codes = torch.from_numpy(np.unique(array, return_inverse=True)[1])
    return codes.to(labels.device) if isinstance(labels, Tensor) else codes


def _array(labels: Labels, name: str) -> Any:
    """Return labels as a tensor of integers or as an array of anything."""
    if not isinstance(labels, Tensor):
        try:
            array = np.asarray(labels)
        except ValueError:  # numpy's, of nested sequences that differ in length
            raise ValueError(f"{name} labels must be one-dimensional, found sequences among them") from None
        if array.dtype.kind in "US" and isinstance(labels, list | tuple):  # numpy makes "nan" of a NaN among names
            return np.asarray(labels, dtype=object)
        return array
    labels = labels.detach()
    if labels.is_cuda and labels.is_floating_point() and bool(labels.isfinite().all()):
        return labels.double().unique(return_inverse=True)[1]
    if labels.is_complex():
        return labels.cpu().resolve_conj().numpy()
    return labels.cpu().double().numpy() if labels.is_floating_point() else labels


def _number(labels: list[Any], name: str) -> list[int]:
    """Number labels that are Python objects, of any kinds, in the order in which they first occur."""
    numbers: dict[Any, int] = {}
    try:
        codes = [numbers.setdefault(label, len(numbers)) for label in labels]
    except (TypeError, ValueError):  # ValueError: a signalling NaN of decimal
        kinds = sorted({type(label).__name__ for label in labels if type(label).__hash__ is None})
        raise ValueError(f"{name} labels must be hashable, found {', '.join(kinds) or 'a NaN that is not'}") from None
    for label in numbers:
        if _is_missing(label):
            raise ValueError(f"{name} labels must all be there, found {label!r}: leave out such points")
    return codes


def _is_missing(label: Any) -> bool:
    """Return whether a label is None, NaN, NaT or pandas' NA, none of which equals itself."""
    try:
        return label is None or label != label or label in (float("inf"), -float("inf"))
    except TypeError:  # of pandas' NA, which is neither true nor false
        return True
