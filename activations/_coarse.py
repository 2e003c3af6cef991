"""The polynomial of SPOCU for bfloat16: half the operations of the exact form, and still within one rounding.

Only the factor ``x`` needs care: bfloat16 has no number so close to the other roots that the rounding of float32 shows.
"""

from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import Any

import torch
from torch import Tensor

from . import _polynomial
from ._fused import traced_as_constants


def value(x: Tensor, constants: Sequence[Any]) -> Tensor:
    """``alpha h(x / gamma + beta) - alpha h(beta)``: ``x`` times a quadratic times a quintic, both in ``z``."""
    inverse, beta, _, start, linear, square, q5, q4, q3, q2, q1, q0, *stop = constants
    t = _polynomial.clamp(x, start, stop[1:])
    z = t * inverse + beta
    zz = z * z
    quintic = torch.addcmul(q1 * z + q0, torch.addcmul(q3 * z + q2, q5 * z + q4, zz), zz)
    return (t * ((z - linear) * z + square)) * quintic


def pull(grad: Tensor, x: Tensor, constants: Sequence[Any]) -> Tensor:
    """``grad`` times the derivative ``2 alpha / gamma z^2 (4 z^5 - 7 z^4 + 3)``."""
    inverse, beta, slope, *_ = constants
    stop = constants[12:13]
    z = _polynomial.clamp(x * inverse + beta, 0, stop)
    zz = z * z
    return _polynomial.inside(z, grad * ((slope * zz) * ((zz * zz) * (4 * z - 7) + 3)), stop)


def bend(grad: Tensor, x: Tensor, constants: Sequence[Any]) -> Tensor:
    """``grad`` times the second derivative ``4 alpha / gamma^2 z (14 z^5 - 21 z^4 + 3)``."""
    inverse, beta, slope, *_ = constants
    stop = constants[12:13]
    z = _polynomial.clamp(x * inverse + beta, 0, stop)
    return _polynomial.inside(z, grad * (2 * slope * inverse * z * ((14 * z - 21) * z**4 + 3)), stop)


@traced_as_constants
def constants(alpha: float, beta: float, gamma: float, c: float) -> tuple[float, ...]:
    """The scalars of the formulas in float32; the last two, ``c`` and its place, are left out if c is infinite."""
    with localcontext() as context:
        context.prec = 50
        a, b, g, end = (Decimal(k) for k in (alpha, beta, gamma, c))
        root1, root2, quintic = _polynomial.factors(b)
        numbers = (1 / g, b, 2 * a / g, -b * g, root1 + root2, root1 * root2, *(a / g * k for k in quintic))
        if end.is_finite():
            numbers += (end, (end - b) * g)
        return tuple(_polynomial.rounded(k, double=False) for k in numbers)
