"""SPOCU with alpha, beta and gamma as tensors that receive gradients."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import _elementwise as _fused
from . import _polynomial


def spocu(x: Tensor, alpha: float | Tensor, beta: float | Tensor, gamma: float | Tensor, c: float) -> Tensor:
    """``alpha h(x / gamma + beta) - alpha h(beta)`` with ``z - beta`` divided out, so that nothing cancels near 0."""
    dtype = _fused.compute_dtype(x.dtype)
    a, b, g = (
        k.to(x.device, dtype) if isinstance(k, Tensor) else torch.tensor(k, dtype=dtype, device=x.device)
        for k in (alpha, beta, gamma)
    )
    if not _fused.is_plain(x) and all(map(_fused.is_ordinary, (a, b, g))) and not _fused.is_forward_mode():
        result: Tensor = _Learned.apply(x, a, b, g, c)
        return result
    return _value(x.to(dtype), _scalars(a, b, g, c)).to(x.dtype)


def _scalars(alpha: Tensor, beta: Tensor, gamma: Tensor, c: float) -> tuple[Tensor, ...]:
    """What the formulas take: among them ``(r(z) - r(beta)) / (z - beta)``, the synthetic division, by powers of z."""
    quotient = [torch.ones_like(beta)]
    for term in (-2.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0):
        quotient.append(quotient[-1] * beta + term)
    stop = (torch.full_like(beta, c),) if math.isfinite(c) else ()
    return alpha, beta, 1 / gamma, *quotient[1:], *stop


def _value(x: Tensor, scalars: Sequence[Any]) -> Tensor:
    alpha, beta, inverse, q6, q5, q4, q3, q2, q1, q0, *stop = scalars
    # z - beta, with z held in [0, c]: h is constant outside.
    step = torch.maximum(x * inverse, -beta)
    for end in stop:
        step = torch.minimum(step, end - beta)
    z = step + beta
    quotient = ((((((z + q6) * z + q5) * z + q4) * z + q3) * z + q2) * z + q1) * z + q0
    return alpha * step * quotient


def _pull(grad: Tensor, x: Tensor, scalars: Sequence[Any]) -> Tensor:
    alpha, beta, inverse, *_ = scalars
    stop = scalars[10:]
    z = _polynomial.inside(torch.relu(x * inverse + beta), 0, stop)
    zz = z * z
    return grad * ((2 * alpha * inverse) * zz * ((zz * zz) * (4 * z - 7) + 3))


class _Learned(torch.autograd.Function):
    """The function of ``x`` and the three parameters, saving these and nothing else."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, beta: Tensor, gamma: Tensor, c: float) -> Tensor:
        ctx.save_for_backward(x, alpha, beta, gamma)
        ctx.c = c
        return _fused.run(_value, None, (x,), torch.stack(_scalars(alpha, beta, gamma, c)))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, alpha, beta, gamma = ctx.saved_tensors
        if torch.is_grad_enabled() or _fused.is_plain(grad):  # to be differentiated again: in plain operations
            with torch.enable_grad():
                wide = x.to(alpha.dtype)
                y = _value(wide, _scalars(alpha, beta, gamma, ctx.c)).to(x.dtype)
            wanted = [t for t, needed in zip((x, alpha, beta, gamma), ctx.needs_input_grad, strict=False) if needed]
            found = iter(torch.autograd.grad(y, wanted, grad, create_graph=torch.is_grad_enabled()))
            return (*(next(found) if needed else None for needed in ctx.needs_input_grad[:4]), None)
        scalars = torch.stack(_scalars(alpha, beta, gamma, ctx.c))
        pulled = _fused.run(_pull, None, (grad, x), scalars)
        y = _fused.run(_value, None, (x,), scalars)
        wide = [t.to(alpha.dtype) for t in (grad, pulled, x, y)]
        slope = 2 * beta**2 * (beta**4 * (4 * beta - 7) + 3)  # r'(beta)
        by_alpha = (wide[0] * wide[3]).sum() / alpha
        by_beta = gamma * wide[1].sum() - alpha * slope * wide[0].sum()
        by_gamma = -(wide[1] * wide[2]).sum() / gamma
        return pulled, by_alpha, by_beta, by_gamma, None
