"""SPOCU and its derivative as the paper defines them, in 50 digits, and the scales of their rounding errors."""

import math

import mpmath

DEFAULTS = {"alpha": 3.0937, "beta": 0.6653, "gamma": 4.437}


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


def largest_term(x, alpha=3.0937, beta=0.6653, gamma=4.437, c=math.inf):
    """The largest term of SPOCU's Taylor series around 0: next to 0 the function itself."""
    with mpmath.workdps(50):
        t = min(max(mpmath.mpf(x) / gamma, -mpmath.mpf(beta)), mpmath.mpf(c) - beta)
        return alpha * max(abs(_taylor(beta, i) * t**i) for i in range(1, 9))


def _taylor(beta, i):
    """The coefficient of `(z - beta)^i` in `z^8 - 2 z^7 + 2 z^3`."""
    powers = ((1, 8), (-2, 7), (2, 3))
    return sum(k * math.comb(n, i) * mpmath.mpf(beta) ** (n - i) for k, n in powers if n >= i)


def largest_term_of_slope(x, alpha=3.0937, beta=0.6653, gamma=4.437, c=math.inf):
    """The largest term of the derivative, not below its value at 0, where z is rounded."""
    z = max(min(x / gamma + beta, c), beta)
    return alpha / gamma * max(8 * z**7, 14 * z**6, 6 * z**2)


def worst_error(values, inputs, scale, **parameters):
    """The largest error of `values` at `inputs`, both lists of floats, as a fraction of `scale` at each input."""
    worst = mpmath.mpf(0)
    for y, x in zip(values, inputs, strict=True):
        with mpmath.workdps(50):
            error = abs(mpmath.mpf(y) - spocu(x, **parameters))
            if error:
                unit = abs(scale(x, **parameters))
                worst = max(worst, error / unit if unit else mpmath.inf)
    return float(worst)
