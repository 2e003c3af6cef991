"""Triton kernels that find the two smallest scores of each row by matrix products in low precision.

`prepare` rounds the rows once. `two_smallest` multiplies them with the centres: the scores `|c|^2 - 2 <x, c>` of a tile
of rows and a tile of centres never leave the chip. The number of its tile stands in the lowest bits of a score, so that
one comparison finds the value and its place: per score one product of `D` numbers, two minima, a maximum and a bit
operation.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, CENTRES, DEEP = 128, 64, 128  # of a tile; numbers of a row that are multiplied at once
PREPARED = 32  # rows that one program prepares
STAGES = 3  # tiles that are loaded ahead; fewer where the chip has less memory, or rows have more columns
_fitting: dict[tuple[Any, ...], int] = {}  # stages, by device, width and type
FAR = 3.0e38  # the score of a centre that only fills a tile


@triton.jit
def shorten(values, BITS: tl.constexpr):
    """Round float32 to the nearest number whose last `BITS` bits are 0: 16 for bfloat16, 13 for TF32."""
    bits = values.to(tl.int32, bitcast=True)
    half = (1 << (BITS - 1)) - 1 + ((bits >> BITS) & 1)
    return (((bits + half) >> BITS) << BITS).to(tl.float32, bitcast=True)


@triton.jit(do_not_specialize=["count"])
def prepare(
    rows, numbers, offset, rounded, sizes, cuts, count, stride,
    D: tl.constexpr, WIDTH: tl.constexpr, DEEP: tl.constexpr, R: tl.constexpr, BITS: tl.constexpr,
):  # fmt: skip
    """Write `x - offset` rounded, `|x|^2` and the square of what rounding has cut off; 0 beyond the last row."""
    at, columns = tl.program_id(0) * R + tl.arange(0, R), tl.arange(0, DEEP)
    inside = at < count
    number = at.to(tl.int64)
    if numbers is not None:
        number = tl.load(numbers + at, mask=inside, other=0)
    size, cut = tl.zeros([R], tl.float32), tl.zeros([R], tl.float32)
    for start in tl.static_range(0, WIDTH, DEEP):
        column = start + columns
        there = inside[:, None] & (column < D)[None, :]
        x = tl.load(rows + number[:, None] * stride + column[None, :], mask=there, other=0.0).to(tl.float32)
        x = tl.where(there, x - tl.load(offset + column, mask=column < D, other=0.0)[None, :], 0.0)
        short = shorten(x, BITS)
        size += tl.sum(x * x, axis=1)
        cut += tl.sum((x - short) * (x - short), axis=1)
        tl.store(rounded + at.to(tl.int64)[:, None] * WIDTH + column[None, :], short.to(rounded.dtype.element_ty))
    tl.store(sizes + at, size, mask=inside)
    tl.store(cuts + at, cut, mask=inside)


@triton.jit(do_not_specialize=["count", "tiles"])
def two_smallest(
    rows, centres, norms, labels, first, second, count, tiles,
    WIDTH: tl.constexpr, DEEP: tl.constexpr, R: tl.constexpr, C: tl.constexpr, PLACES: tl.constexpr,
):  # fmt: skip
    """Write the label and the two smallest scores of each row; `rows` and `centres`, which are -2 c, are prepared."""
    at, column, deep = tl.program_id(0) * R + tl.arange(0, R), tl.arange(0, C), tl.arange(0, DEEP)
    own = rows + at.to(tl.int64)[:, None] * WIDTH + deep[None, :]
    other = centres + column[None, :] * WIDTH + deep[:, None]
    whole = tl.load(own)
    low, two = tl.full([R, C], 3.3e38, tl.float32), tl.full([R, C], 3.3e38, tl.float32)
    for tile in range(0, tiles):
        scores = tl.broadcast_to(tl.load(norms + tile * C + column)[None, :], [R, C])
        for start in tl.static_range(0, WIDTH, DEEP):
            x = whole
            if WIDTH > DEEP:
                x = tl.load(own + start)
            c = tl.load(other + tile * C * WIDTH + start)
            scores = tl.dot(x, c, scores, input_precision="tf32")
        bits = scores.to(tl.int32, bitcast=True)
        key = (((bits >> PLACES) << PLACES) | tile).to(tl.float32, bitcast=True)
        two = tl.minimum(two, tl.maximum(low, key))
        low = tl.minimum(low, key)
    least, best = tl.min(low, axis=1), tl.argmin(low, axis=1)
    tile = least.to(tl.int32, bitcast=True) & ((1 << PLACES) - 1)
    inside = at < count
    tl.store(labels + at, tile * C + best, mask=inside)
    tl.store(first + at, least, mask=inside)
    tl.store(second + at, tl.min(tl.where(column[None, :] == best[:, None], two, low), axis=1), mask=inside)


def width(dim: int) -> int:
    """Return the number of columns of prepared rows and centres, those beyond `dim` being 0."""
    return max(16, triton.next_power_of_2(dim)) if dim <= DEEP else -(-dim // DEEP) * DEEP


def places(clusters: int) -> int:
    """Return the number of bits that hold the number of a tile."""
    return max(1, (clusters // CENTRES - 1).bit_length())


def launch(
    rows: Tensor, numbers: Tensor | None, offset: Tensor, centres: Tensor, norms: Tensor, bits: int
) -> tuple[Tensor, Tensor] | None:
    """Search all rows `[N, D]`, or those with the given numbers.

    Args:
        rows: float32, float16 or bfloat16; the columns are contiguous.
        numbers: int64 `[B]`.
        offset: float32 `[D]`, subtracted from each row.
        centres: -2 c rounded to `bits` fewer bits, `[K, width(D)]` with `K` a multiple of `CENTRES`: bfloat16 for 16
            bits, float32 for 13.
        norms: float32 `[K]`, `FAR` for centres that only fill the tile.
        bits: Number of bits by which float32 is shortened.

    Returns:
        int32 `[B]` labels and float32 `[4, B]`: the smallest and the second smallest score, each changed in its last
        `places(K)` bits, the squared norm of the row, and that of what rounding has cut off. None if the tiles do not
        fit on the chip, or the centres' numbers are too many for 32 bits.
    """
    kind = rows.device, centres.shape[1], centres.dtype
    if _fitting.get(kind, STAGES) == 0 or centres.numel() >= 2**31:
        return None
    count, wide = len(rows) if numbers is None else len(numbers), centres.shape[1]
    filled = triton.cdiv(count, ROWS) * ROWS
    rounded = torch.empty(filled, wide, dtype=centres.dtype, device=rows.device)
    labels = torch.empty(count, dtype=torch.int32, device=rows.device)
    first, second, sizes, cuts = results = torch.empty(4, count, dtype=torch.float32, device=rows.device)
    deep = min(wide, DEEP)
    with torch.cuda.device_of(rows):
        prepare[(triton.cdiv(filled, PREPARED),)](
            rows, numbers, offset, rounded, sizes, cuts, count, rows.stride(0),
            D=rows.shape[1], WIDTH=wide, DEEP=deep, R=PREPARED, BITS=bits, num_warps=4,
        )  # fmt: skip
        for stages in range(_fitting.get(kind, STAGES), 0, -1):
            try:
                two_smallest[(triton.cdiv(count, ROWS),)](
                    rounded, centres, norms, labels, first, second, count, len(centres) // CENTRES,
                    WIDTH=wide, DEEP=deep, R=ROWS, C=CENTRES, PLACES=places(len(centres)), num_warps=8,
                    num_stages=stages,
                )  # fmt: skip
            except triton.OutOfResources:
                _fitting[kind] = stages - 1
            else:
                return labels, results
    return None
