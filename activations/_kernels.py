"""Triton kernels of the activations on CUDA: each reads its input once and writes its result once, 16 bytes at a time.

They compute in float32, whatever the type of the tensors, and take the constants as arguments, so that nothing is sent
to the device and the first call may be inside the capture of a CUDA graph.
"""

import ctypes
import functools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = tl.constexpr(2048)  # elements of a program: sixteen for each thread
OPTIONS = {"num_warps": 4}


@triton.jit
def begin(pointer, start):
    """Return the places of a block."""
    return pointer + start + tl.arange(0, BLOCK)


@triton.jit
def read(pointer, start, n, FULL: tl.constexpr):
    """Return a block in float32, 0 from `n` on."""
    places = begin(pointer, start)
    values = tl.load(places) if FULL else tl.load(places, mask=start + tl.arange(0, BLOCK) < n, other=0.0)
    return values.to(tl.float32)


@triton.jit
def write(pointer, values, start, n, FULL: tl.constexpr):
    """Write the elements of a block that are before `n`."""
    places, rounded = begin(pointer, start), values.to(pointer.dtype.element_ty)
    if FULL:
        tl.store(places, rounded)
    else:
        tl.store(places, rounded, mask=start + tl.arange(0, BLOCK) < n)


@triton.jit
def value(v, inverse, low, high, alpha, k1, k2, k3, k4, k5, k6, k7):
    """Compute `_polynomial.value`."""
    v = tl.where(v < low, low, v)
    t = tl.where(v > high, high, v) * inverse
    return alpha * t * (((((((t + k7) * t + k6) * t + k5) * t + k4) * t + k3) * t + k2) * t + k1)


@triton.jit
def pull(grad, v, inverse, high, beta, alpha):
    """Compute `_polynomial.pull`."""
    z = v * inverse + beta
    z = tl.where((z < 0) | (v > high), 0.0, z)
    square = z * z
    return grad * ((2 * alpha * inverse * square) * ((4 * z - 7) * (square * square) + 3))


@triton.jit
def spocu_block(
    out, grad, x, start, n, inverse, low, high, beta, alpha, k1, k2, k3, k4, k5, k6, k7,
    PULL: tl.constexpr, FULL: tl.constexpr,
):  # fmt: skip
    """Compute a block of SPOCU, or of `grad` times its derivative."""
    v = read(x, start, n, FULL)
    if PULL:
        result = pull(read(grad, start, n, FULL), v, inverse, high, beta, alpha)
    else:
        result = value(v, inverse, low, high, alpha, k1, k2, k3, k4, k5, k6, k7)
    write(out, result, start, n, FULL)


@triton.jit(do_not_specialize=["n"])
def spocu(
    out, grad, x, n, inverse, low, high, beta, alpha, k1, k2, k3, k4, k5, k6, k7, PULL: tl.constexpr
):  # fmt: skip
    """Compute SPOCU, or `grad` times its derivative."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    if start + BLOCK <= n:
        spocu_block(
            out, grad, x, start, n, inverse, low, high, beta, alpha, k1, k2, k3, k4, k5, k6, k7, PULL, True
        )  # fmt: skip
    else:
        spocu_block(
            out, grad, x, start, n, inverse, low, high, beta, alpha, k1, k2, k3, k4, k5, k6, k7, PULL, False
        )  # fmt: skip


@triton.jit
def hardshrink_block(out, grad, x, start, n, lower, upper, PULL: tl.constexpr, FULL: tl.constexpr):
    """Set a block, or its gradient, to 0 where `lower <= x <= upper`."""
    v = read(x, start, n, FULL)
    result = v
    if PULL:
        result = read(grad, start, n, FULL)
    write(out, tl.where((v >= lower) & (v <= upper), 0.0, result), start, n, FULL)


@triton.jit(do_not_specialize=["n"])
def hardshrink(out, grad, x, n, lower, upper, PULL: tl.constexpr):
    """Compute Hardshrink, or `grad` times its derivative."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    if start + BLOCK <= n:
        hardshrink_block(out, grad, x, start, n, lower, upper, PULL, True)
    else:
        hardshrink_block(out, grad, x, start, n, lower, upper, PULL, False)


def launch(name: str, tensors: Sequence[Tensor], constants: tuple[float, ...]) -> Tensor:
    """Return a function of the last tensor, or the first tensor times its derivative if there are two.

    The result has the layout of the last tensor.
    """
    x = tensors[-1]
    out = torch.empty_like(x)
    grad, x = in_layout(tensors[0], out), in_layout(x, out)
    n = out.numel()
    if n:
        with launching(out.device):
            grid = (triton.cdiv(n, BLOCK.value),)
            kernel = spocu if name == "spocu" else hardshrink
            kernel[grid](out, grad, x, n, *constants, PULL=len(tensors) == 2, **OPTIONS)
    return out


def in_layout(tensor: Tensor, out: Tensor) -> Tensor:
    """Return a tensor in the layout of another one without gaps."""
    return tensor if tensor.stride() == out.stride() else torch.empty_like(out).copy_(tensor)


def launching(device: torch.device) -> AbstractContextManager[object]:
    """Return a context for launches on a device, in which a kernel may be loaded even while a graph is captured."""
    if device.type != "cuda":
        return nullcontext()
    if torch.cuda.is_current_stream_capturing():
        return _loading(device)
    return torch.cuda.device(device) if device.index != torch.cuda.current_device() else nullcontext()


@contextmanager
def _loading(device: torch.device) -> Iterator[None]:
    mode = ctypes.c_int(2)  # CU_STREAM_CAPTURE_MODE_RELAXED, for which torch has no function
    exchange = _driver().cuThreadExchangeStreamCaptureMode
    with torch.cuda.device(device):
        exchange(ctypes.byref(mode))  # `mode` is now the one before
        try:
            yield
        finally:
            exchange(ctypes.byref(mode))


@functools.cache
def _driver() -> Any:
    return ctypes.CDLL("libcuda.so.1")
