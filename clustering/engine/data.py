"""Data read as blocks of 16,384 rows, from an array, a memory-mapped file, a tensor or batches.

`Source` and its two subclasses read the rows; `OutputType` converts results back to the type and device of the input.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.int64]
"""Row numbers."""

BLOCK = 16_384
"""Rows per block. Whatever is computed from a block depends on that block only, hence its bits never change."""

_TORCH = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def to_numpy(values: Any) -> Array:
    """Return values as a numpy array: tensors are copied to the CPU, bfloat16 becomes float32."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    values = values.detach()
    return (values.float() if values.dtype == torch.bfloat16 else values).cpu().numpy()


class OutputType(NamedTuple):
    """Type and device of the results: those of the input."""

    dtype: str  # float64, float32, float16 or bfloat16
    device: str | None = None  # of tensors; None for numpy arrays

    @classmethod
    def of(cls, data: Any) -> "OutputType":
        """Return the type of an array or a tensor; float64 for integers."""
        tensor = isinstance(data, Tensor)
        name = str(data.dtype).removeprefix("torch.") if tensor else data.dtype.name
        return cls(name if name in _TORCH else "float64", str(data.device) if tensor else None)

    def available(self) -> "OutputType":
        """Return this type, on the CPU if its GPU is missing."""
        missing = self.device is not None and self.device.startswith("cuda") and not torch.cuda.is_available()
        return self._replace(device="cpu") if missing else self

    def round(self, values: Float64) -> Float64:
        """Round float64 values to numbers of this type; the result is float64 again."""
        if self.dtype == "bfloat16":
            rounded: Float64 = torch.from_numpy(values).bfloat16().double().numpy()
            return rounded
        with np.errstate(over="ignore"):
            return values.astype(self.dtype).astype(np.float64)

    def convert(self, values: Array | Tensor) -> Any:
        """Convert centres or distances."""
        if self.device is None:
            return to_numpy(values).astype(self.dtype, copy=False)
        return torch.as_tensor(values, device=self.device).to(_TORCH[self.dtype])

    def convert_labels(self, labels: Labels | Tensor) -> Any:
        """Convert labels: int32 in numpy as in scikit-learn, int64 in torch, where losses and indices need it."""
        if self.device is None:
            return to_numpy(labels)
        return torch.as_tensor(labels, device=self.device).long()


def pieces(rows: int, columns: int) -> Iterator[slice]:
    """Cut rows into slices that stay in the cache when they are converted to float64."""
    size = min(BLOCK, max(256, (1 << 18) // columns))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


class Block(NamedTuple):
    """Consecutive rows."""

    start: int  # number of the first row
    stop: int  # number after the last row
    data: Any  # contains the rows: the whole data of the source, or these rows alone
    first: int  # number of the first row in `data`

    def rows(self, which: Numbers | None = None) -> Array:
        """Return all rows, or those at the given positions of the block."""
        part = self.data[self.start - self.first : self.stop - self.first]
        return to_numpy(part if which is None else rows_at(part, which))


def rows_at(rows: Array | Tensor, numbers: Numbers) -> Array | Tensor:
    """Return the rows with the given numbers, on the device of the rows."""
    if isinstance(rows, Tensor):
        return rows[torch.from_numpy(numbers).to(rows.device)]
    taken: Array = rows[numbers]
    return taken


class Source(ABC):
    """Rows that can be read any number of times."""

    count: int  # number of rows; -1 before batches have been read once
    dim: int  # number of columns

    @abstractmethod
    def blocks(self) -> Iterator[Block]:
        """Yield the blocks in order; all but the last have `BLOCK` rows."""

    @abstractmethod
    def parts(self) -> Iterator[Array | Tensor]:
        """Yield all rows in order, in parts of any size, as they are."""

    @abstractmethod
    def take(self, numbers: Numbers) -> Array:
        """Return the rows with the given numbers, which must ascend where rows come in batches."""


class ArraySource(Source):
    """An array or a tensor `[N, D]`: each block is read in place, when it is needed."""

    def __init__(self, data: Array | Tensor) -> None:
        self.data = data
        self.count, self.dim = data.shape

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks in order."""
        for start in range(0, self.count, BLOCK):
            yield Block(start, min(start + BLOCK, self.count), self.data, 0)

    def parts(self) -> Iterator[Array | Tensor]:
        """Yield all rows at once."""
        yield self.data

    def take(self, numbers: Numbers) -> Array:
        """Return the rows with the given numbers."""
        return to_numpy(rows_at(self.data, numbers))


class BatchSource(Source):
    """Batches of any size (arrays or tensors `[*, D]`, or tuples that begin with one), regrouped into blocks."""

    def __init__(self, batches: Iterable[Any], dim: int) -> None:
        self.batches, self.count, self.dim = batches, -1, dim

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks in order."""
        for start, rows in self.groups():
            yield Block(start, start + len(rows), to_numpy(rows), start)

    def groups(self) -> Iterator[tuple[int, Array | Tensor]]:
        """Yield the number of the first row of each block, and its rows on their device."""
        pending: list[Array | Tensor] = []
        start = size = 0
        for rows in self.parts():
            while size + len(rows) >= BLOCK:
                head, rows = rows[: BLOCK - size], rows[BLOCK - size :]
                yield start, joined([*pending, head])
                start, pending, size = start + BLOCK, [], 0
            if len(rows):
                # A copy, because a loader may write the next batch into the same memory.
                pending.append(rows.clone() if isinstance(rows, Tensor) else rows.copy())
                size += len(rows)
        if size:
            yield start, joined(pending)

    def parts(self) -> Iterator[Array | Tensor]:
        """Yield the rows of each batch, as it is."""
        size = 0
        for batch in self.batches:
            rows = self._checked(batch)
            size += len(rows)
            yield rows
        if self.count not in (-1, size):
            raise ValueError(f"the batches must not change: they had {self.count} rows at first, found {size}")
        self.count = size

    def take(self, numbers: Numbers) -> Array:
        """Return the rows with the given numbers, in one pass over the batches."""
        taken, start = [], 0
        for rows in self.parts():
            stop = start + len(rows)
            inside = numbers[np.searchsorted(numbers, start) : np.searchsorted(numbers, stop)] - start
            taken.append(to_numpy(rows_at(rows, inside)))
            start = stop
        return np.concatenate(taken)

    def _checked(self, batch: Any) -> Array | Tensor:
        rows = first_of(batch)
        rows = rows.detach() if isinstance(rows, Tensor) else np.asarray(rows)
        real = not rows.is_complex() if isinstance(rows, Tensor) else rows.dtype.kind in "fiub"
        if rows.ndim != 2 or not real:
            raise ValueError(f"a batch must be numbers [N, D], found {rows.dtype} {list(rows.shape)}")
        if rows.shape[1] != self.dim:
            raise ValueError(f"every batch must have {self.dim} columns like the first, found {rows.shape[1]}")
        return rows


def joined(parts: list[Array | Tensor]) -> Array | Tensor:
    """Return all rows in new memory: a tensor if all parts are tensors on one device."""
    if all(isinstance(rows, Tensor) and rows.device == parts[0].device for rows in parts):
        return torch.cat(parts)  # type: ignore[arg-type]  # all are tensors
    return np.concatenate([to_numpy(rows) for rows in parts])


def first_of(batch: Any) -> Any:
    """Return the rows of a batch: its first item, if it is a tuple or a list."""
    return batch[0] if isinstance(batch, tuple | list) and len(batch) else batch


def check_finite(low: float, high: float) -> None:
    """Raise ValueError unless the smallest and the largest of some values are finite."""
    if np.isnan(low) or np.isnan(high):
        raise ValueError("Input X contains NaN: drop such rows, or impute the missing values first")
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("Input X contains infinity or a value too large for its type: drop such rows")
