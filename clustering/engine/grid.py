"""Sums of floating-point numbers that do not depend on the order of the additions.

Numbers that are multiples of one power of two, the grid, are added without rounding as long as the result stays below
2^53 grid steps. So block sums are rounded to a common grid first, and from there on any order, on any number of threads
or machines, gives the same bits. The grid is so fine that it costs about what rounding a running float64 sum costs.
"""

import math

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


def grid_for(bound: float) -> float:
    """The grid for sums whose absolute value stays below ``bound``."""
    return 2.0 ** (math.frexp(bound)[1] - 51) if bound > 0 else 1.0


def snap(values: Float64, grid: float) -> Float64:
    """Round to multiples of ``grid``, in place."""
    values /= grid
    np.rint(values, out=values)
    values *= grid
    return values
