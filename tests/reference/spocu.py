"""SPOCU and its derivative word for word from the paper, in 50 digits."""

import math

import mpmath


def _r(z):
    return z**3 * (z**5 - 2 * z**4 + 2)


def _h(z, c):
    if z < 0:
        return mpmath.mpf(0)
    return _r(z) if z < c else _r(mpmath.mpf(c))


def spocu(x, alpha=3.0937, beta=0.6653, gamma=4.437, c=math.inf):
    with mpmath.workdps(50):
        a, b, g = mpmath.mpf(alpha), mpmath.mpf(beta), mpmath.mpf(gamma)
        return a * _h(mpmath.mpf(x) / g + b, c) - a * _h(b, c)


def slope(x, alpha=3.0937, beta=0.6653, gamma=4.437, c=math.inf):
    with mpmath.workdps(50):
        a, b, g = mpmath.mpf(alpha), mpmath.mpf(beta), mpmath.mpf(gamma)
        z = mpmath.mpf(x) / g + b
        return a / g * (8 * z**7 - 14 * z**6 + 6 * z**2) if 0 < z < c else mpmath.mpf(0)


def worst_relative_error(found, inputs, exact, **parameters):
    """The largest relative error of ``found`` over ``inputs`` (both lists of floats); an exact 0 must be met."""
    worst = mpmath.mpf(0)
    for y, x in zip(found, inputs, strict=True):
        wanted = exact(x, **parameters)
        with mpmath.workdps(50):
            error = abs(mpmath.mpf(y) - wanted)
            if error:
                worst = max(worst, error / abs(wanted) if wanted else mpmath.inf)
    return float(worst)
