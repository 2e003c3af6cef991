"""How lists of tensors lie in memory: cut to what a CPU's cache holds, flattened whatever their strides."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

# A list of small tensors is worked on together up to this many elements: enough to hide the cost of a call, few enough
# that the temporaries of one operation are still in a CPU's cache when the next one reads them. Where every element is
# worked on alone, a larger tensor is cut.
CHUNK_ELEMENTS = 2**18

Room: TypeAlias = dict[torch.dtype, Tensor]


def chunks(tensors: Sequence[Tensor], foreach: bool | None) -> Iterator[slice]:
    """Cut a list of tensors into runs that a `_foreach` function works on at once.

    `foreach=True` makes one run, False runs of one tensor. None is one run on an accelerator (where a launch costs more
    than memory) and runs of at most `CHUNK_ELEMENTS` on a CPU (where it is the other way round).
    """
    if foreach is None:
        foreach = True if tensors and tensors[0].device.type != "cpu" else None
    limit = {True: float("inf"), False: 0, None: CHUNK_ELEMENTS}[foreach]
    start = total = 0
    for i, tensor in enumerate(tensors):
        if i > start and total + tensor.numel() > limit:
            yield slice(start, i)
            start, total = i, 0
        total += tensor.numel()
    if tensors:
        yield slice(start, len(tensors))


def cut(lists: Sequence[list[Tensor]], foreach: bool | None) -> list[list[Tensor]]:
    """Cut tensors that are too large for a CPU's cache into flat pieces, for elementwise work with `foreach=None`.

    Args:
        lists: Lists of the same length; tensors at the same place have the same shape.
        foreach: As in `chunks`.
    """
    large = foreach is None and any(t.is_cpu and t.numel() > CHUNK_ELEMENTS for t in lists[0])
    if not large:
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


def scratch(size: int, dtype: torch.dtype, device: torch.device, kept: Room) -> Tensor:
    """Return a flat tensor to write to, with anything in it.

    That of a CPU is kept for the next call: memory that is new to a process costs as much as several passes over it.
    """
    if device.type != "cpu":
        return torch.empty(size, dtype=dtype, device=device)
    if dtype not in kept or kept[dtype].numel() < size:
        kept[dtype] = torch.empty(size, dtype=dtype, device=device)
    return kept[dtype][:size]


def flat(tensors: Iterable[Tensor], order: list[int]) -> list[Tensor]:
    """Return flat forms of tensors of one shape: views where `order` is how they lie in memory, else copies."""
    natural = order == sorted(order)
    return [t.view(-1) if natural and t.is_contiguous() else t.permute(order).reshape(-1).contiguous() for t in tensors]


def _write_back(flats: Sequence[Tensor], tensors: Sequence[Tensor], order: list[int]) -> None:
    """Write the flat forms that are copies back into the tensors they were made from."""
    for source, tensor in zip(flats, tensors, strict=True):
        if source.data_ptr() != tensor.data_ptr():
            permuted = tensor.permute(order)
            permuted.copy_(source.view(permuted.shape))
        else:
            torch.autograd.graph.increment_version(tensor)


def memory_order(tensor: Tensor) -> list[int]:
    """Return the dimensions in the order in which they lie in memory, the outermost first."""
    if tensor.is_contiguous():
        return list(range(tensor.ndim))
    return sorted(range(tensor.ndim), key=tensor.stride, reverse=True)


@contextlib.contextmanager
def contiguous(lists: Sequence[list[Tensor]], written: Sequence[int]) -> Iterator[list[list[Tensor]]]:
    """Lend lists whose tensors are all contiguous: themselves, views of them, or copies that are written back.

    Args:
        lists: Lists of the same length; tensors at the same place have the same shape, but any strides.
        written: Positions of the lists whose tensors may change.
    """
    result = [list(values) for values in lists]
    odd: list[tuple[int, list[int]]] = []
    for i, tensors in enumerate(zip(*lists, strict=True)):
        if not all(t.is_contiguous() for t in tensors):
            odd.append((i, memory_order(tensors[0])))
            for values, new in zip(result, flat(tensors, odd[-1][1]), strict=True):
                values[i] = new
    yield result
    for i, order in odd:
        _write_back([result[k][i] for k in written], [lists[k][i] for k in written], order)


def on_flat(work: Callable[[list[Tensor]], bool], tensors: Sequence[Tensor], written: Sequence[int]) -> bool:
    """Call `work` on flat forms of tensors of one shape, whatever their strides, and write back what it changed.

    Args:
        work: Gets the flat tensors and returns whether it has changed them; it need not count their versions.
        tensors: Not empty. The first one's memory format decides in which order the elements are passed.
        written: Positions of the tensors that change.

    Returns:
        What `work` returned.
    """
    if all(t.is_contiguous() for t in tensors):
        done = work([t.view(-1) for t in tensors])
        if done:
            torch.autograd.graph.increment_version([tensors[i] for i in written])
        return done
    order = memory_order(tensors[0])
    flats = flat(tensors, order)
    done = work(flats)
    if done:
        _write_back([flats[i] for i in written], [tensors[i] for i in written], order)
    return done
