"""What the kernels of `optim/kernels.py` share: the table of tensors, blocks of their elements, sums of parts."""

import triton
import triton.language as tl

from ._table import CHUNK

LENGTH = tl.constexpr(CHUNK)
BLOCK = tl.constexpr(1024)  # elements at a time: eight for each thread
SUMS = tl.constexpr(256)  # partial sums at a time


@triton.jit
def row(table, number, count, tensor):
    """Return a tensor's entry in a row of the table; `count` is the number of tensors."""
    return tl.load(table + number * count + tensor)


@triton.jit
def place(table, number, count, tensor, start, dtype: tl.constexpr):
    """Return the address of the element `start` of a tensor whose address is in a row of the table."""
    return row(table, number, count, tensor).to(tl.pointer_type(dtype)) + start


@triton.jit
def span(table, number, count, tensor, part):
    """Return where a chunk starts, its number of elements, and how many of them are in whole blocks."""
    start = part * LENGTH
    left = tl.minimum(row(table, number, count, tensor) - start, LENGTH).to(tl.int32)
    return start, left, left // BLOCK * BLOCK


@triton.jit
def read(base, at, left, FULL: tl.constexpr, ALIGNED: tl.constexpr, ONCE: tl.constexpr):
    """Return a block in float32, 0 beyond `left`; `ONCE`: nobody reads it again soon."""
    policy: tl.constexpr = "evict_first" if ONCE else ""
    offsets = at + tl.arange(0, BLOCK)
    places = base + offsets
    if FULL:
        if ALIGNED:
            places = tl.multiple_of(places, 16)
        values = tl.load(places, eviction_policy=policy)
    else:
        values = tl.load(places, mask=offsets < left, other=0.0, eviction_policy=policy)
    return values.to(tl.float32)


@triton.jit
def write(base, values, at, left, FULL: tl.constexpr, ALIGNED: tl.constexpr):
    """Write the elements of a block that are before `left`."""
    offsets = at + tl.arange(0, BLOCK)
    places = base + offsets
    rounded = values.to(base.dtype.element_ty)
    if FULL:
        if ALIGNED:
            places = tl.multiple_of(places, 16)
        tl.store(places, rounded)
    else:
        tl.store(places, rounded, mask=offsets < left)


@triton.jit
def total(sums, number):
    """Return the sum of `number` partial sums."""
    result = tl.zeros([SUMS], tl.float32)
    for at in range(0, number, SUMS):
        offsets = at + tl.arange(0, SUMS)
        result += tl.load(sums + offsets, mask=offsets < number, other=0.0)
    return tl.sum(result)
