"""One Triton kernel from stored uint8 images to a batch on CUDA: crop, flip, normalise, cut out, convert.

It does the arithmetic of `batch.normalise` in float32, in the same order and without fused operations, so that the
numbers have the bits of the CPU's, rounded once if the batch is narrower.
"""

from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# Elements of a tile. A program makes one tile of each channel, or of all of them where they are neighbours in memory.
TILE = 4096


@triton.jit
def reflected(place, size):
    """Return the index that mirrors that of a row or column beyond the border."""
    place = tl.abs(place)
    return size - 1 - tl.abs(size - 1 - place)


@triton.jit
def pixels(
    source, inside, y, x, c, top, left, flip, shift, scale, cut_row, cut_column,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, CROP: tl.constexpr, REFLECT: tl.constexpr, CUTOUT: tl.constexpr,
):  # fmt: skip
    """Return a tile with rows y `[R, 1]`, columns x and channels c `[1, K]`, of which some are `inside` the image."""
    column = tl.where(flip, WIDTH - 1 - x, x)
    row = y
    valid = inside
    if CROP:
        row, column = row + top, column + left
        if REFLECT:
            row, column = reflected(row, HEIGHT), reflected(column, WIDTH)
        else:
            valid = inside & ((row >= 0) & (row < HEIGHT)) & ((column >= 0) & (column < WIDTH))
    byte = tl.load(source + (c * HEIGHT + row) * WIDTH + column, mask=valid, other=0)
    values = (byte.to(tl.float32) - shift) * scale
    if CUTOUT > 0:
        y0, x0 = cut_row - CUTOUT // 2, cut_column - CUTOUT // 2
        cut = ((y >= y0) & (y < y0 + CUTOUT)) & ((x >= x0) & (x < x0 + CUTOUT))
        values = tl.where(cut, 0.0, values)
    return values


# Slices of a plan begin anywhere.
PLAN = ["order", "top", "left", "flip", "cut_row", "cut_column"]


@triton.jit(do_not_specialize=["edge"], do_not_specialize_on_alignment=PLAN)
def batch(
    out, flat, order, top, left, flip, cut_row, cut_column, shift, scale, edge,
    CHANNELS: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    CROP: tl.constexpr, REFLECT: tl.constexpr, FLIP: tl.constexpr, CUTOUT: tl.constexpr, LAST: tl.constexpr,
):  # fmt: skip
    """Make some rows of an image; `LAST`: the channels are the last dimension in memory."""
    image = tl.program_id(0)
    source = flat + edge + tl.load(order + image) * (CHANNELS * HEIGHT * WIDTH)
    target = out + image.to(tl.int64) * (CHANNELS * HEIGHT * WIDTH)
    t, s, mirrored, row, column = 0, 0, False, 0, 0
    if CROP:
        t, s = tl.load(top + image).to(tl.int32), tl.load(left + image).to(tl.int32)
    if FLIP:
        mirrored = tl.load(flip + image) != 0
    if CUTOUT > 0:
        row, column = tl.load(cut_row + image).to(tl.int32), tl.load(cut_column + image).to(tl.int32)
    y = (tl.program_id(1) * ROWS + tl.arange(0, ROWS))[:, None]
    k = tl.arange(0, COLUMNS)[None, :]
    if LAST:
        x, c = k // CHANNELS, k % CHANNELS
        inside = (y < HEIGHT) & (k < WIDTH * CHANNELS)
        values = pixels(
            source, inside, y, x, c, t, s, mirrored, tl.load(shift + c), tl.load(scale + c), row, column,
            HEIGHT, WIDTH, CROP, REFLECT, CUTOUT,
        )  # fmt: skip
        tl.store(target + y * (WIDTH * CHANNELS) + k, values.to(out.dtype.element_ty), mask=inside)
    else:
        inside = (y < HEIGHT) & (k < WIDTH)
        for c in tl.static_range(CHANNELS):
            values = pixels(
                source, inside, y, k, c, t, s, mirrored, tl.load(shift + c), tl.load(scale + c), row, column,
                HEIGHT, WIDTH, CROP, REFLECT, CUTOUT,
            )  # fmt: skip
            tl.store(target + (c * HEIGHT + y) * WIDTH + k, values.to(out.dtype.element_ty), mask=inside)


def launch(
    out: Tensor, flat: Tensor, edge: int, plan: Any, shift: Tensor, scale: Tensor, cutout: int, reflect: bool
) -> Tensor:
    """Fill `out` `[B, C, H, W]`, contiguous or channels last, with the batch of a plan, and return it.

    Args:
        out: The batch.
        flat: The images' bytes, the first of them at `edge`.
        edge: See `flat`.
        plan: Positions and draws of the batch.
        shift: Mean of each channel.
        scale: Reciprocal standard deviation of each channel.
        cutout: Side of the square to cut out.
        reflect: Mirror the image at its border; otherwise it is black outside.
    """
    images, channels, height, width = out.shape
    last = not out.is_contiguous()
    columns = triton.next_power_of_2(width * channels if last else width)
    rows = min(triton.next_power_of_2(height), max(TILE // columns, 1))
    order = plan.order
    draws = [order if draw is None else draw for draw in plan[1 : len(PLAN)]]  # where there is none, nothing reads it
    draws[2] = draws[2].view(torch.uint8) if plan.flip is not None else draws[2]
    if images:
        with torch.cuda.device(out.device) if out.is_cuda else nullcontext():
            batch[(images, triton.cdiv(height, rows))](
                out, flat, order, *draws, shift, scale, edge, CHANNELS=channels, HEIGHT=height, WIDTH=width,
                ROWS=rows, COLUMNS=columns, CROP=plan.top is not None, REFLECT=reflect, FLIP=plan.flip is not None,
                CUTOUT=cutout if plan.cut_row is not None else 0, LAST=last, num_warps=4,
                enable_fp_fusion=False,
            )  # fmt: skip
    return out
