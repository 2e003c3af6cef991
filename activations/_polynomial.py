"""SPOCU's polynomial around the origin, its derivatives, and the gradients of its parameters.

With `r(z) = z^8 - 2 z^7 + 2 z^3` and `t = x / gamma`, Taylor's formula gives
`alpha (r(t + beta) - r(beta)) = alpha t (k1 + k2 t + ... + k7 t^6 + t^7)`, where `kj = r^(j)(beta) / j!`. The constant
term is gone before anything is rounded, so nothing cancels near 0.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import _elementwise


def coefficients(alpha: Any, beta: Any, gamma: Any, c: float) -> tuple[Any, ...]:
    """Return the constants of the formulas below: `1 / gamma, low, high, beta, alpha, k1, ..., k7`.

    `h` is constant for `x < low` and for `x > high`. The parameters are numbers or 0-d tensors.
    """
    b, square = beta, beta * beta
    cube = square * b
    return (
        1 / gamma,
        -b * gamma,
        (c - b) * gamma if math.isfinite(c) else c,  # inf times the gradient 0 of gamma would be NaN
        b,
        alpha,
        2 * square * (1 - b) * (3 + b * (3 + b * (3 + b * (3 - 4 * b)))),  # factored: its sum cancels near b = 1
        6 * b + cube * square * (28 * b - 42),
        2 + cube * b * (56 * b - 70),
        70 * cube * (b - 1),
        square * (56 * b - 42),
        b * (28 * b - 14),
        8 * b - 2,
    )


def value(x: Tensor, constants: Sequence[Any]) -> Tensor:
    """Return `alpha h(x / gamma + beta) - alpha h(beta)`."""
    inverse, low, high, _, alpha, k1, k2, k3, k4, k5, k6, k7 = constants
    t = _clamped(x, low, high) * inverse
    # Horner's scheme, since two infinite terms of opposite sign would meet in any other one.
    return alpha * t * (((((((t + k7) * t + k6) * t + k5) * t + k4) * t + k3) * t + k2) * t + k1)


def pull(grad: Tensor, x: Tensor, constants: Sequence[Any]) -> Tensor:
    """Return `grad` times the derivative, `2 alpha / gamma z^2 (4 z^5 - 7 z^4 + 3)`."""
    z, inverse, alpha = _inside(x, constants)
    square = z * z
    return grad * ((2 * alpha * inverse * square) * ((4 * z - 7) * (square * square) + 3))


def bend(grad: Tensor, x: Tensor, constants: Sequence[Any]) -> Tensor:
    """Return `grad` times the second derivative, `4 alpha / gamma^2 z (14 z^5 - 21 z^4 + 3)`."""
    z, inverse, alpha = _inside(x, constants)
    return grad * (4 * alpha * inverse * inverse * z * ((14 * z - 21) * z**4 + 3))


def _clamped(x: Tensor, low: Any, high: Any) -> Tensor:
    if not isinstance(low, Tensor):
        return x.clamp(low, high)
    x = torch.where(x < low, low, x)  # compiled, two instructions where clamp takes three
    return torch.where(x > high, high, x)


def _inside(x: Tensor, constants: Sequence[Any]) -> tuple[Tensor, Any, Any]:
    """Return `z`, set to 0 (where every derivative is 0) outside `low < x <= high`, with `1 / gamma` and `alpha`."""
    inverse, _, high, beta, alpha = constants[:5]
    return torch.where(x > high, 0, torch.relu(x * inverse + beta)), inverse, alpha


FIXED = _elementwise.Elementwise(value, pull, bend, "spocu")
"""The function for parameters that are numbers."""


def trained(x: Tensor, alpha: float | Tensor, beta: float | Tensor, gamma: float | Tensor, c: float) -> Tensor:
    """Return the same function of `x`, differentiable in the parameters that are tensors."""
    dtype = _elementwise.compute_dtype(x.dtype)
    a, b, g = (torch.as_tensor(k, dtype=dtype, device=x.device) for k in (alpha, beta, gamma))
    plain = _elementwise.is_plain(x) or _elementwise.is_forward_mode()
    if not plain and all(map(_elementwise.is_ordinary, (a, b, g))):
        result: Tensor = _Trained.apply(x, a, b, g, c)
        return result
    return value(x.to(dtype), _stacked(a, b, g, c).unbind()).to(x.dtype)


def _stacked(alpha: Tensor, beta: Tensor, gamma: Tensor, c: float) -> Tensor:
    return torch.stack([torch.as_tensor(k).to(beta) for k in coefficients(alpha, beta, gamma, c)])


class _Trained(torch.autograd.Function):
    """The function of `x` and the three parameters, which saves these four only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, beta: Tensor, gamma: Tensor, c: float) -> Tensor:
        ctx.save_for_backward(x, alpha, beta, gamma)
        ctx.c = c
        if triton := _kernels((x, alpha, beta, gamma)):
            fused: Tensor = triton.launch(x, alpha, beta, gamma, c)
            return fused
        return _elementwise.run(value, (x,), _stacked(alpha, beta, gamma, c))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, alpha, beta, gamma = ctx.saved_tensors
        if torch.is_grad_enabled() or _elementwise.is_plain(grad):  # a second derivative needs plain operations
            with torch.enable_grad():
                y = value(x.to(alpha.dtype), _stacked(alpha, beta, gamma, ctx.c).unbind()).to(x.dtype)
            wanted = [t for t, needed in zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False) if needed]
            gradients = iter(torch.autograd.grad(y, wanted, grad, create_graph=torch.is_grad_enabled()))
            return (*(next(gradients) if needed else None for needed in ctx.needs_input_grad[:4]), None)
        if triton := _kernels((x, alpha, beta, gamma)):
            return (*triton.launch_backward(grad, x, alpha, beta, gamma, ctx.c), None)
        constants = _stacked(alpha, beta, gamma, ctx.c)
        slope = constants[5]
        pulled = _elementwise.run(pull, (grad, x), constants)
        unscaled = _elementwise.run(value, (x,), _stacked(torch.ones_like(alpha), beta, gamma, ctx.c))
        wide, by_x = grad.to(alpha.dtype), pulled.to(alpha.dtype)
        by_alpha = unscaled.to(alpha.dtype).mul_(wide).sum()
        by_beta = gamma * by_x.sum() - alpha * slope * wide.sum()
        largest = torch.finfo(x.dtype).max  # 0 times inf would be NaN
        by_gamma = -x.to(alpha.dtype).clamp(-largest, largest).mul_(by_x).sum() / gamma
        return pulled, by_alpha, by_beta, by_gamma, None


def _kernels(tensors: Sequence[Tensor]) -> Any:
    """Return the module of Triton kernels for trained parameters if they compute with these tensors, or None."""
    if _elementwise.kernels(tensors) is None:
        return None
    from . import _trained_kernels  # Triton may be missing

    return _trained_kernels
