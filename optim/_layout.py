"""Memory layout of lists of tensors: chunks that fit a CPU's cache, flat views and contiguous copies."""

import contextlib
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

# Small tensors are stepped together up to this many elements: enough to hide the cost of a call, few enough that the
# temporaries of one operation are still in a CPU's cache when the next operation reads them.
CHUNK_ELEMENTS = 2**18


def chunks(tensors: Sequence[Tensor], foreach: bool | None) -> Iterator[slice]:
    """Yield slices of a list of tensors of one device, each to be passed to `torch._foreach_*` functions as a whole.

    `foreach=True` yields one slice, False one slice per tensor. None yields one slice on an accelerator, where a launch
    costs more than memory traffic, and slices of at most `CHUNK_ELEMENTS` elements on a CPU, where it costs less.
    """
    on_cpu = any(tensor.is_cpu for tensor in tensors[:1])
    limit = 0 if foreach is False else CHUNK_ELEMENTS if foreach is None and on_cpu else math.inf
    start = total = 0
    for i, tensor in enumerate(tensors):
        if i > start and total + tensor.numel() > limit:
            yield slice(start, i)
            start, total = i, 0
        total += tensor.numel()
    if tensors:
        yield slice(start, len(tensors))


def cut(lists: Sequence[list[Tensor]], foreach: bool | None) -> list[list[Tensor]]:
    """Cut tensors that exceed a CPU's cache into flat pieces, for elementwise work with `foreach=None`.

    The lists have the same length, and tensors at the same place the same shape.
    """
    if foreach is not None or not any(t.is_cpu and t.numel() > CHUNK_ELEMENTS for t in lists[0]):
        return list(lists)
    result: list[list[Tensor]] = [[] for _ in lists]
    for tensors in zip(*lists, strict=True):
        pieces: Sequence[Sequence[Tensor]] = [(t,) for t in tensors]
        if tensors[0].is_cpu and tensors[0].numel() > CHUNK_ELEMENTS:
            flats = flat(tensors, memory_order(tensors[0]))
            if all(f.data_ptr() == t.data_ptr() for f, t in zip(flats, tensors, strict=True)):
                pieces = [f.split(CHUNK_ELEMENTS) for f in flats]
        for values, new in zip(result, pieces, strict=True):
            values.extend(new)
    return result


def scaled(tensors: list[Tensor], factor: float, buffers: dict[torch.dtype, Tensor]) -> list[Tensor]:
    """Return the tensors times a number, on a CPU in a buffer that is kept in `buffers` for the next call.

    Memory that is new to a process costs as much as several passes over it.
    """
    if not tensors[0].is_cpu:
        return list(torch._foreach_mul(tensors, factor))
    sizes, dtype = [tensor.numel() for tensor in tensors], tensors[0].dtype
    if dtype not in buffers or buffers[dtype].numel() < sum(sizes):
        buffers[dtype] = tensors[0].new_empty(sum(sizes))
    parts = buffers[dtype][: sum(sizes)].split(sizes)
    return [torch.mul(t, factor, out=part.view_as(t)) for t, part in zip(tensors, parts, strict=True)]


def memory_order(tensor: Tensor) -> list[int]:
    """Return the dimensions in the order of their strides, outermost first."""
    if tensor.is_contiguous():
        return list(range(tensor.ndim))
    return sorted(range(tensor.ndim), key=tensor.stride, reverse=True)


def flat(tensors: Sequence[Tensor], order: list[int]) -> list[Tensor]:
    """Return flat forms of tensors of one shape: views where `order` is their `memory_order`, otherwise copies."""
    return [t.permute(order).reshape(-1).contiguous() for t in tensors]


@contextlib.contextmanager
def contiguous(lists: Sequence[list[Tensor]], written: Sequence[int]) -> Iterator[list[list[Tensor]]]:
    """Yield contiguous versions of the lists, and copy changes back on exit.

    A contiguous tensor is yielded itself; any other is yielded flat, as a view where its strides allow that. The lists
    have the same length, and tensors at the same place the same shape; those of the lists `written` may change.
    """
    result = [list(values) for values in lists]
    non_contiguous: list[tuple[int, list[int]]] = []
    for i, tensors in enumerate(zip(*lists, strict=True)):
        if not all(t.is_contiguous() for t in tensors):
            order = memory_order(tensors[0])
            non_contiguous.append((i, order))
            for values, new in zip(result, flat(tensors, order), strict=True):
                values[i] = new
    yield result
    for i, order in non_contiguous:
        for k in written:
            target, source = lists[k][i].permute(order), result[k][i]
            if target.data_ptr() != source.data_ptr():
                target.copy_(source.view(target.shape))
