"""Data as blocks of 16,384 rows, whatever it comes as: an array, a file mapped into memory, a tensor, batches.

What the answers are given as: what the data came as, and where it lay.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .coordinates import Float64

_TORCH = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Kind(NamedTuple):
    """The type of centres and distances.

    Attributes:
        dtype: ``"float64"``, ``"float32"``, ``"float16"`` or ``"bfloat16"``.
        device: The tensors' device; None for numpy arrays.
    """

    dtype: str
    device: str | None = None

    @classmethod
    def of(cls, data: Any) -> "Kind":
        """The kind of an array or a tensor; integers are answered in float64."""
        name = str(data.dtype).removeprefix("torch.")
        dtype = name if name in _TORCH else "float64"
        return cls(dtype, str(data.device) if isinstance(data, Tensor) else None)

    def round(self, values: Float64) -> Float64:
        """The values as this type would hold them, in float64."""
        if self.dtype == "bfloat16":
            rounded: Float64 = torch.from_numpy(values).bfloat16().double().numpy()
            return rounded
        with np.errstate(over="ignore"):
            return values.astype(self.dtype).astype(np.float64)

    def here(self) -> "Kind":
        """This kind, with the CPU for a device that is not there."""
        gone = self.device is not None and self.device.startswith("cuda") and not torch.cuda.is_available()
        return self._replace(device="cpu") if gone else self

    def give(self, values: npt.NDArray[Any]) -> Any:
        """Floating-point answers."""
        if self.device is None:
            return values.astype(self.dtype, copy=False)
        return torch.from_numpy(values).to(_TORCH[self.dtype]).to(self.device)

    def give_labels(self, labels: npt.NDArray[np.int32]) -> Any:
        """Labels: int32 in numpy, as scikit-learn's; int64 in torch, as its losses and indices want them."""
        return labels if self.device is None else torch.from_numpy(labels).long().to(self.device)


def plain(values: Any) -> npt.NDArray[Any]:
    """Answers as a numpy array again."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


BLOCK = 16_384
"""Rows of a block. What is computed from a block depends on nothing else, so that its bits are always the same."""

Rows = npt.NDArray[Any]


def pieces(rows: int, columns: int) -> Iterator[slice]:
    """Slices of rows that stay in the cache when they are widened to float64."""
    size = min(BLOCK, max(256, (1 << 18) // columns))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


class Block(NamedTuple):
    """Some consecutive rows.

    Attributes:
        start: The number of the first row.
        stop: The number after the last row's.
        data: What holds them: the source's whole data, or the rows alone.
        first: The number of the row that ``data`` begins with.
    """

    start: int
    stop: int
    data: Any
    first: int

    def rows(self, which: npt.NDArray[np.int64] | None = None) -> Rows:
        """All rows, or those at the given places in the block."""
        part = self.data[self.start - self.first : self.stop - self.first]
        if which is not None:
            part = part[torch.from_numpy(which).to(part.device) if isinstance(part, Tensor) else which]
        return as_array(part)


def as_array(rows: Any) -> Rows:
    """Rows as a numpy array: tensors come to the CPU, bfloat16 becomes float32."""
    if not isinstance(rows, Tensor):
        return np.asarray(rows)
    rows = rows.detach()
    return (rows.float() if rows.dtype == torch.bfloat16 else rows).cpu().numpy()


class Source(ABC):
    """Rows that can be read as often as wanted.

    Attributes:
        count: Number of rows.
    """

    count: int

    @abstractmethod
    def blocks(self) -> Iterator[Block]:
        """The blocks in order; all but the last have ``BLOCK`` rows."""

    @abstractmethod
    def take(self, which: npt.NDArray[np.int64]) -> Rows:
        """The rows with the given numbers, which ascend."""


class Held(Source):
    """An array or a tensor ``[N, D]``: each block is read where it lies, and only when it is worked on."""

    def __init__(self, data: Rows | Tensor) -> None:
        self.data, self.count = data, len(data)

    def blocks(self) -> Iterator[Block]:
        """The blocks in order."""
        for start in range(0, self.count, BLOCK):
            yield Block(start, min(start + BLOCK, self.count), self.data, 0)

    def take(self, which: npt.NDArray[np.int64]) -> Rows:
        """The rows with the given numbers."""
        if isinstance(self.data, Tensor):
            return as_array(self.data[torch.from_numpy(which).to(self.data.device)])
        return np.asarray(self.data[which])


class Batched(Source):
    """Batches of any sizes, cut anew into blocks. ``count`` is known after the first time through."""

    def __init__(self, batches: Iterable[Any]) -> None:
        if iter(batches) is iter(batches):
            raise ValueError(
                f"the batches are read several times, but {type(batches).__name__} can be read once only: "
                "give something that starts anew, such as a list or a DataLoader"
            )
        self.batches, self.count, self.columns = batches, -1, -1

    def blocks(self) -> Iterator[Block]:
        """The blocks in order."""
        held: list[Rows] = []
        start = size = 0
        for batch in self.batches:
            rows = self._checked(batch)
            while size + len(rows) >= BLOCK:
                head, rows = rows[: BLOCK - size], rows[BLOCK - size :]
                yield Block(start, start + BLOCK, np.concatenate([*held, head]), start)
                start, held, size = start + BLOCK, [], 0
            if len(rows):
                # A copy: a loader may write the next batch into the same memory.
                held.append(rows.copy())
                size += len(rows)
        if size:
            yield Block(start, start + size, np.concatenate(held), start)
        if self.count not in (-1, start + size):
            raise ValueError(f"the batches held {self.count} rows at first and {start + size} now")
        self.count = start + size

    def take(self, which: npt.NDArray[np.int64]) -> Rows:
        """The rows with the given numbers: one time through."""
        parts = []
        for block in self.blocks():
            here = which[np.searchsorted(which, block.start) : np.searchsorted(which, block.stop)]
            parts.append(block.rows(here - block.start))
        return np.concatenate(parts)

    def _checked(self, batch: Any) -> Rows:
        rows = as_array(batch[0] if isinstance(batch, tuple | list) and len(batch) else batch)
        if rows.ndim != 2 or rows.dtype.kind not in "fiub":
            raise ValueError(f"a batch must be numbers [N, D], got {rows.dtype} {list(rows.shape)}")
        if self.columns not in (-1, rows.shape[1]):
            raise ValueError(f"every batch must have {self.columns} columns as the first has, got {rows.shape[1]}")
        self.columns = rows.shape[1]
        return rows
