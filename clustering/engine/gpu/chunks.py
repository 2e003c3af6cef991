"""Rows on the device, chunk by chunk: in place if they are there, else copied while the chunk before is processed.

What is on a GPU already is used by the calling thread, on whose stream it was computed; the host's data are copied by a
thread of their own.
"""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data import Array, ArraySource, Source, joined
from ..problem import Problem

RESIDENT = 1 << 27
"""Numbers in a chunk of rows that are on the device already; a pass takes up to seven bytes for each."""
OVERHEAD = 48
"""Numbers of a row in temporary arrays, besides its columns: what takes most of the memory where these are few."""
STREAMED = 1 << 24
"""Numbers in a chunk that is copied to the device; there are two buffers of this size, on either side."""
PIECE = 1 << 24
"""Numbers in a temporary array."""
_SHARE = 0.5
"""Data are moved to the device as a whole if they take at most this share of its free memory."""


class Chunk(NamedTuple):
    """Consecutive rows `[B, D]` on the device, in the type and the coordinates of the data."""

    start: int
    stop: int
    rows: Tensor


def pieces(rows: int, columns: int, numbers: int | None = None) -> Iterator[slice]:
    """Cut rows into slices of at most `numbers` numbers, by default those of a temporary array."""
    size = max(1, (PIECE if numbers is None else numbers) // max(columns, 1))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def place(problem: Problem) -> Problem:
    """Return the problem with its rows on its device, if it has one and they fit."""
    source, device = problem.source, problem.device
    if device is None or not isinstance(source, ArraySource) or resident(source, device) is not None:
        return problem
    kind = _dtype(source.data)
    if source.count * source.dim * kind.itemsize > _SHARE * free_memory(device):
        return problem
    moved = torch.empty(source.count, source.dim, dtype=kind, device=device)
    for chunk in chunks(source, device):
        moved[chunk.start : chunk.stop] = chunk.rows
    return replace(problem, source=ArraySource(moved))


def resident(source: Source, device: torch.device) -> Tensor | None:
    """Return the rows if they are a tensor on the device."""
    data = source.data if isinstance(source, ArraySource) else None
    return data if isinstance(data, Tensor) and data.device == device else None


def free_memory(device: torch.device) -> float:
    """Return the free memory of the device in bytes; that of the host counts as unlimited."""
    return float(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else float("inf")


def chunks(source: Source, device: torch.device) -> Iterator[Chunk]:
    """Yield all rows in order."""
    if isinstance(source, ArraySource):
        cuts = pieces(source.count, source.dim + OVERHEAD, RESIDENT if is_near(source.data, device) else STREAMED)
        items: Iterator[tuple[int, Any]] = ((cut.start, source.data[cut]) for cut in cuts)
    else:
        items = _grouped(source)
    first = next(items, None)
    if first is None:
        return
    items = itertools.chain([first], items)
    if is_near(first[1], device):
        for start, rows in items:
            yield Chunk(start, start + len(rows), torch.as_tensor(rows).to(device))
        return
    upload = _Upload(device)
    with ThreadPoolExecutor(1, "clustering") as pool:
        ahead = None
        for start, rows in items:
            # One chunk ahead, and never two: the buffers are two.
            following = pool.submit(upload.copy, start, rows.cpu() if isinstance(rows, Tensor) else rows)
            if ahead is not None:
                yield upload.ready(ahead.result())
            ahead = following
        if ahead is not None:
            yield upload.ready(ahead.result())


def is_near(data: Any, device: torch.device) -> bool:
    """Return whether data are a tensor on the device, or on another GPU."""
    return isinstance(data, Tensor) and (data.device == device or data.is_cuda)


def _grouped(source: Source) -> Iterator[tuple[int, Any]]:
    """Yield the first number of each chunk and its rows: several batches, or a part of one."""
    group: list[Array | Tensor] = []
    start = stop = 0
    for batch in source.parts():
        for cut in pieces(len(batch), source.dim + OVERHEAD, STREAMED):
            # A copy, because a loader may write the next batch into the same memory.
            group.append(batch[cut].clone() if isinstance(batch, Tensor) else batch[cut].copy())
            stop += len(group[-1])
            if (stop - start) * (source.dim + OVERHEAD) >= STREAMED:
                yield start, joined(group)
                start, group = stop, []
    if group:
        yield start, joined(group)


class _Upload:
    """Two page-locked buffers, from which rows are copied to the device on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.cuda = device, device.type == "cuda"
        self._buffers: list[Tensor | None] = [None, None]
        self._copied: list[Any] = [None, None]
        self._stream = torch.cuda.Stream(device) if self.cuda else None
        self._turn = 0

    def copy(self, start: int, rows: Any) -> Any:
        """Copy the rows; called on one thread, which may be ahead of the one that computes."""
        if not self.cuda:
            tensor = torch.empty(rows.shape, dtype=_dtype(rows), device="cpu")
            _fill(tensor, rows)
            return Chunk(start, start + len(rows), tensor.to(self.device)), None
        turn, self._turn = self._turn, 1 - self._turn
        if self._copied[turn] is not None:
            self._copied[turn].synchronize()  # the buffer is free again
        kind, buffer = _dtype(rows), self._buffers[turn]
        if buffer is None or len(buffer) < len(rows) or buffer.dtype != kind:
            buffer = self._buffers[turn] = torch.empty(rows.shape, dtype=kind, device="cpu", pin_memory=True)
        _fill(buffer[: len(rows)], rows)
        with torch.cuda.stream(self._stream):
            tensor = buffer[: len(rows)].to(self.device, non_blocking=True)
            self._copied[turn] = self._stream.record_event()  # type: ignore[union-attr]  # there is one on CUDA
        return Chunk(start, start + len(rows), tensor), self._copied[turn]

    def ready(self, copied: Any) -> Chunk:
        """Make the computing stream wait for a copy, and return it."""
        chunk, event = copied
        if event is not None:
            computing = torch.cuda.current_stream(self.device)
            computing.wait_event(event)
            chunk.rows.record_stream(computing)
        return chunk


def _dtype(rows: Any) -> torch.dtype:
    """Return the type of the rows on the device: float64 for those that torch does not compute with."""
    if isinstance(rows, Tensor):
        return rows.dtype
    name = rows.dtype.newbyteorder("=").name
    known = rows.dtype.kind != "u" or rows.dtype.itemsize == 1
    return getattr(torch, name) if known else torch.float64


def _fill(target: Tensor, rows: Any) -> None:
    """Copy an array of any layout and byte order, or a tensor, into a tensor on the host."""
    if isinstance(rows, Tensor):
        target.copy_(rows)
    else:
        np.copyto(target.numpy(), rows, casting="unsafe")
