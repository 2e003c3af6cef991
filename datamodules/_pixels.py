"""Checks of the options that say what pixels mean."""

import math
from collections.abc import Sequence

from PIL import ImageColor


def colour(name: str, value: str) -> str:
    """Return the name of a colour, or raise a ValueError.

    >>> colour("background", "#ff8000")
    '#ff8000'
    """
    try:
        ImageColor.getrgb(value)
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{name} must be a colour such as white or #ff8000, found {value!r}") from error
    return value


def black_and_white(value_range: Sequence[float] | None) -> tuple[float, float] | None:
    """Return the values that become black and white, or raise a ValueError.

    >>> black_and_white([0, 4095])
    (0.0, 4095.0)
    """
    if value_range is None:
        return None
    limits = tuple(map(float, value_range))
    if len(limits) != 2 or not -math.inf < limits[0] < limits[1] < math.inf:
        raise ValueError(f"value_range must hold two finite numbers, black < white, found {list(value_range)}")
    return limits[0], limits[1]


def channels(name: str, values: Sequence[float]) -> tuple[float, ...]:
    """Return a mean or standard deviation per channel of images in RGB or grey, or raise a ValueError.

    >>> channels("mean", [0.5])
    (0.5,)
    """
    numbers = tuple(float(one) for one in values)
    if len(numbers) not in (1, 3) or not all(map(math.isfinite, numbers)) or (name == "std" and min(numbers) < 0):
        least = " of at least 0" if name == "std" else ""
        raise ValueError(f"{name} must be 3 finite numbers{least} (grey: 1), found {list(values)}")
    return numbers
