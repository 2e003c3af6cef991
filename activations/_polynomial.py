"""The polynomial of SPOCU in factored form: each factor keeps its relative accuracy, so their product does too.

``r(z) = z^8 - 2 z^7 + 2 z^3``. For ``0 < beta < 1`` the difference ``r(z) - r(beta)`` has three roots in ``z >= 0``:
``beta``, one in ``(1, low)`` and one in ``(low, 2)``, where ``low`` is the place of the minimum of ``r``. Divided by
these it leaves a quintic of positive coefficients, in which nothing cancels. Likewise
``r'(z) = 2 z^2 (z - 1) (z - low) cubic(z)`` with positive coefficients.
"""

import math
import struct
from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import Any

import torch
from torch import Tensor

from ._elementwise import traced_as_constants

# r without its constant term, and the quartic factor of r'(z) = 2 z^2 (z - 1) (4 z^4 - 3 z^3 - 3 z^2 - 3 z - 3).
R = tuple(Decimal(k) for k in (1, -2, 0, 0, 0, 2, 0, 0, 0))
_QUARTIC = tuple(Decimal(k) for k in (4, -3, -3, -3, -3))
_STOP = 22  # where the place of c follows in the constants, if it is finite


def value(x: Tensor, constants: Sequence[Any]) -> Tensor:
    """``alpha h(x / gamma + beta) - alpha h(beta)``: ``t (t - root1) (t - root2) quintic(t - start)``."""
    unit, start, root1, root1_lo, root2, root2_lo, q5, q4, q3, q2, q1, q0 = constants[:12]
    t = clamp(x * unit, start, constants[_STOP:])
    z = t - start
    zz = z * z
    # Pairs instead of Horner's chain: the same number of operations, half the waiting.
    quintic = torch.addcmul(q1 * z + q0, torch.addcmul(q3 * z + q2, q5 * z + q4, zz), zz)
    return (t * (t - root1 - root1_lo)) * ((t - root2 - root2_lo) * quintic)


def pull(grad: Tensor, x: Tensor, constants: Sequence[Any]) -> Tensor:
    """``grad`` times the derivative ``alpha / gamma r'(z)``, which is 0 outside ``0 < z < c``."""
    unit, start, *_ = constants
    one, one_lo, low, low_lo, c3, c2, c1, c0 = constants[12:20]
    t = inside(clamp(x * unit, start, ()), start, constants[_STOP:])
    z = t - start
    zz = z * z
    cubic = torch.addcmul(c1 * z + c0, c3 * z + c2, zz)
    return grad * ((zz * (t - one - one_lo)) * ((t - low - low_lo) * cubic))


def bend(grad: Tensor, x: Tensor, constants: Sequence[Any]) -> Tensor:
    """``grad`` times the second derivative ``alpha / gamma^2 r''(z)``."""
    unit, start, *_ = constants
    inverse, curve = constants[20:_STOP]
    t = inside(clamp(x * unit, start, ()), start, constants[_STOP:])
    z = (t - start) * inverse
    return grad * (curve * z * ((14 * z - 21) * z**4 + 3))


def clamp(t: Tensor, start: Any, stop: Sequence[Any]) -> Tensor:
    """``t`` held in ``[start, stop]``."""
    # Compiled, where the bounds are tensors, where takes two instructions and clamp three.
    t = torch.where(t < start, start, t) if isinstance(start, Tensor) else t.clamp(min=start)
    for end in stop:
        t = torch.where(t > end, end, t) if isinstance(end, Tensor) else t.clamp(max=end)
    return t


def inside(t: Tensor, start: Any, stop: Sequence[Any]) -> Tensor:
    """``t`` before ``stop``, from there on ``start``, where every slope is 0."""
    for end in stop:
        t = torch.where(t >= end, start, t)
    return t


@traced_as_constants
def constants(alpha: float, beta: float, gamma: float, c: float, double: bool) -> tuple[float, ...]:
    """The scalars of the formulas above; places on the x axis are split in two floats, so that ``x - place`` is exact.

    The x axis is first scaled by a power of two, which is exact, so that gamma is in [1, 2): no coefficient leaves the
    range of float32.

    Args:
        alpha: Height.
        beta: Place of the origin on the polynomial.
        gamma: Width.
        c: Where the polynomial is cut off, may be infinite.
        double: Round to float64, else to float32.

    Returns:
        The scalars; the last one, the place of ``c``, is left out when it is infinite.
    """
    mantissa, exponent = math.frexp(gamma)
    with localcontext() as context:
        context.prec = 50
        a, b, g = Decimal(alpha), Decimal(beta), Decimal(mantissa * 2)
        unit = Decimal(2) ** (1 - exponent)
        low = _bisect(_QUARTIC, Decimal(1), Decimal(2))
        root1, root2, quintic = factors(b)
        cubic = divide(_QUARTIC, low)
        place = [(z - b) * g for z in (Decimal(0), Decimal(c), root1, root2, Decimal(1), low)]
        numbers: tuple[Decimal, ...] = (unit, place[0], *_split(place[2], double), *_split(place[3], double))
        numbers += tuple(a * k / g ** (8 - i) for i, k in enumerate(quintic))
        numbers += (*_split(place[4], double), *_split(place[5], double))
        numbers += tuple(2 * a * unit * k / g ** (8 - i) for i, k in enumerate(cubic))
        numbers += (1 / g, 4 * a * (unit / g) ** 2)
        if math.isfinite(c):
            numbers += (place[1],)
        return tuple(rounded(k, double) for k in numbers)


def _evaluate(polynomial: Sequence[Decimal], z: Decimal) -> Decimal:
    result = Decimal(0)
    for coefficient in polynomial:
        result = result * z + coefficient
    return result


def factors(beta: Decimal) -> tuple[Decimal, Decimal, tuple[Decimal, ...]]:
    """``r(z) - r(beta) = (z - beta) (z - root1) (z - root2) quintic(z)``: both roots and the quintic."""
    low = _bisect(_QUARTIC, Decimal(1), Decimal(2))
    septic = divide(R, beta)
    root1, root2 = _bisect(septic, Decimal(1), low), _bisect(septic, low, Decimal(2))
    return root1, root2, divide(divide(septic, root1), root2)


def divide(polynomial: Sequence[Decimal], root: Decimal) -> tuple[Decimal, ...]:
    """The quotient of ``polynomial`` (highest power first) by ``z - root``."""
    quotient = [polynomial[0]]
    for coefficient in polynomial[1:-1]:
        quotient.append(quotient[-1] * root + coefficient)
    return tuple(quotient)


def _bisect(polynomial: Sequence[Decimal], low: Decimal, high: Decimal) -> Decimal:
    """The root of ``polynomial`` between ``low`` and ``high``, to 48 digits."""
    rising = _evaluate(polynomial, high) > 0
    for _ in range(160):
        middle = (low + high) / 2
        if (_evaluate(polynomial, middle) > 0) == rising:
            high = middle
        else:
            low = middle
    return (low + high) / 2


def rounded(number: Decimal, double: bool) -> float:
    """``number`` as float64 or float32; what is too large becomes infinite."""
    rounded = float(number)
    if double:
        return rounded
    try:
        return float(struct.unpack("f", struct.pack("f", rounded))[0])
    except OverflowError:
        return float("inf") if rounded > 0 else float("-inf")


def _split(number: Decimal, double: bool) -> tuple[Decimal, Decimal]:
    """``number`` rounded, and the rest."""
    high = Decimal(rounded(number, double))
    return high, number - high
