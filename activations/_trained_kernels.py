"""Triton kernels of SPOCU with trained parameters: one launch forward, two backward, where plain operations take 60."""

import triton
import triton.language as tl
from torch import Tensor, empty, empty_like, finfo, float32

from ._kernels import BLOCK, OPTIONS, in_layout, launching, pull, read, value, write

PROGRAMS = tl.constexpr(1024)  # at most, of the backward pass: as many partial sums


@triton.jit
def coefficients(alpha, beta, gamma, c):
    """Return `_polynomial.coefficients` of parameters in memory."""
    a, b, g = tl.load(alpha), tl.load(beta), tl.load(gamma)
    square = b * b
    cube = square * b
    high = tl.where(c == float("inf"), c, (c - b) * g)
    k1 = 2 * square * (1 - b) * (3 + b * (3 + b * (3 + b * (3 - 4 * b))))
    k2 = 6 * b + cube * square * (28 * b - 42)
    k3 = 2 + cube * b * (56 * b - 70)
    k4 = 70 * cube * (b - 1)
    k5 = square * (56 * b - 42)
    return 1 / g, -b * g, high, b, a, k1, k2, k3, k4, k5, b * (28 * b - 14), 8 * b - 2


@triton.jit(do_not_specialize=["n"])
def forward(out, x, alpha, beta, gamma, n, c):
    """Compute SPOCU."""
    inverse, low, high, _, a, k1, k2, k3, k4, k5, k6, k7 = coefficients(alpha, beta, gamma, c)
    start = tl.program_id(0).to(tl.int64) * BLOCK
    if start + BLOCK <= n:
        v = read(x, start, n, True)
        write(out, value(v, inverse, low, high, a, k1, k2, k3, k4, k5, k6, k7), start, n, True)
    else:
        v = read(x, start, n, False)
        write(out, value(v, inverse, low, high, a, k1, k2, k3, k4, k5, k6, k7), start, n, False)


@triton.jit(do_not_specialize=["n"])
def backward(out, sums, grad, x, alpha, beta, gamma, n, c, largest):
    """Compute the gradient of x; and, for each program, the sums of x times it, of it, of `grad`, of `grad` times s."""
    inverse, low, high, b, a, k1, k2, k3, k4, k5, k6, k7 = coefficients(alpha, beta, gamma, c)
    program, programs = tl.program_id(0), tl.num_programs(0)
    by_x, by_y, of_g, of_value = (
        tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32),
        tl.zeros([BLOCK], tl.float32),
    )  # fmt: skip
    start = program.to(tl.int64) * BLOCK
    while start < n:
        if start + BLOCK <= n:
            g, v = read(grad, start, n, True), read(x, start, n, True)
        else:
            g, v = read(grad, start, n, False), read(x, start, n, False)
        pulled = pull(g, v, inverse, high, b, a)
        if start + BLOCK <= n:
            write(out, pulled, start, n, True)
        else:
            write(out, pulled, start, n, False)
        # 0 times inf would be NaN.
        by_x += tl.minimum(tl.maximum(v, -largest), largest) * pulled
        by_y += pulled
        of_g += g
        of_value += g * value(v, inverse, low, high, 1.0, k1, k2, k3, k4, k5, k6, k7)
        start += programs.to(tl.int64) * BLOCK
    tl.store(sums + program, tl.sum(by_x))
    tl.store(sums + PROGRAMS + program, tl.sum(by_y))
    tl.store(sums + 2 * PROGRAMS + program, tl.sum(of_g))
    tl.store(sums + 3 * PROGRAMS + program, tl.sum(of_value))


@triton.jit
def total(sums, programs):
    """Return the sum of the programs' sums."""
    offsets = tl.arange(0, PROGRAMS)
    return tl.sum(tl.load(sums + offsets, mask=offsets < programs, other=0.0))


@triton.jit(do_not_specialize=["programs"])
def parameters(out, sums, alpha, beta, gamma, c, programs):
    """Compute the gradients of alpha, beta and gamma from the sums."""
    _, _, _, _, a, k1, _, _, _, _, _, _ = coefficients(alpha, beta, gamma, c)
    g = tl.load(gamma)
    by_x, by_y = total(sums, programs), total(sums + PROGRAMS, programs)
    of_g, of_value = total(sums + 2 * PROGRAMS, programs), total(sums + 3 * PROGRAMS, programs)
    tl.store(out, of_value)
    tl.store(out + 4, g * by_y - a * k1 * of_g)
    tl.store(out + 8, -by_x / g)


def launch(x: Tensor, alpha: Tensor, beta: Tensor, gamma: Tensor, c: float) -> Tensor:
    """Return SPOCU of `x`, with the layout of `x`; the parameters are float32."""
    out = empty_like(x)
    if x.numel():
        with launching(x.device):
            grid = (triton.cdiv(x.numel(), BLOCK.value),)
            forward[grid](out, in_layout(x, out), alpha, beta, gamma, x.numel(), float(c), **OPTIONS)
    return out


def launch_backward(
    grad: Tensor, x: Tensor, alpha: Tensor, beta: Tensor, gamma: Tensor, c: float
) -> tuple[Tensor, ...]:
    """Return the gradients of `x` and of the parameters."""
    out, n = empty_like(x), x.numel()
    of_parameters = empty(3, 4, dtype=float32, device=x.device)  # each 16 bytes, as optimizers like it
    sums = empty(4, PROGRAMS.value, dtype=float32, device=x.device)
    programs = min(triton.cdiv(n, BLOCK.value), PROGRAMS.value)
    with launching(x.device):
        if n:
            backward[(programs,)](
                out, sums, in_layout(grad, out), in_layout(x, out), alpha, beta, gamma, n, float(c),
                finfo(float32).max, **OPTIONS,
            )  # fmt: skip
        parameters[(1,)](of_parameters, sums, alpha, beta, gamma, float(c), programs, **OPTIONS)
    return (out, *of_parameters[:, 0].unbind())
