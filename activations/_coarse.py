"""The polynomial of SPOCU for bfloat16: half the operations of the exact form, and still within one rounding.

Only the factor ``x`` needs care: the default parameters leave no bfloat16 number so close to another root that the
rounding of float32 shows. With other parameters one may lie there by chance; its value, near 0, is then off by a few
roundings (six at most were seen).
"""

from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import Any

import torch
from torch import Tensor

from . import _polynomial
from ._elementwise import traced_as_constants

_STOP = 14  # where c and its place on the x axis follow in the constants, if finite


def value(x: Tensor, constants: Sequence[Any]) -> Tensor:
    """``alpha h(x / gamma + beta) - alpha h(beta)``: ``x`` times a septic in ``z``."""
    inverse, beta, start, k7, k6, k5, k4, k3, k2, k1, k0 = constants[:11]
    t = _polynomial.clamp(x, start, constants[_STOP + 1 :])
    z = t * inverse + beta
    zz = z * z
    high = torch.addcmul(k5 * z + k4, k7 * z + k6, zz)
    return t * torch.addcmul(k1 * z + k0, torch.addcmul(k3 * z + k2, high, zz), zz)


def pull(grad: Tensor, x: Tensor, constants: Sequence[Any]) -> Tensor:
    """``grad`` times the derivative ``alpha / gamma z^2 (8 z^5 - 14 z^4 + 6)``."""
    d5, d4, d0 = constants[11:_STOP]
    z = _inside(x, constants)
    zz = z * z
    return (grad * zz) * ((zz * zz) * (d5 * z + d4) + d0)


def bend(grad: Tensor, x: Tensor, constants: Sequence[Any]) -> Tensor:
    """``grad`` times the second derivative ``alpha / gamma^2 z (56 z^5 - 84 z^4 + 12)``."""
    inverse, d0 = constants[0], constants[_STOP - 1]
    z = _inside(x, constants)
    return grad * (2 * d0 * inverse * z * ((14 / 3 * z - 7) * z**4 + 1))


def _inside(x: Tensor, constants: Sequence[Any]) -> Tensor:
    """``z`` where ``0 < z < c``; elsewhere 0, where every derivative is 0."""
    inverse, beta = constants[:2]
    z = torch.relu(x * inverse + beta)  # one instruction
    return _polynomial.inside(z, 0, constants[_STOP : _STOP + 1])


@traced_as_constants
def constants(alpha: float, beta: float, gamma: float, c: float) -> tuple[float, ...]:
    """The scalars of the formulas in float32; the last two, ``c`` and its place, are left out if c is infinite."""
    with localcontext() as context:
        context.prec = 50
        a, b, g, end = (Decimal(k) for k in (alpha, beta, gamma, c))
        numbers = (1 / g, b, -b * g, *(a / g * k for k in _polynomial.divide(_polynomial.R, b)))
        numbers += (8 * a / g, -14 * a / g, 6 * a / g)
        if end.is_finite():
            numbers += (end, (end - b) * g)
        return tuple(_polynomial.rounded(k, double=False) for k in numbers)
