"""Argument checks shared by the backbones."""

import math
from collections.abc import Sequence


def flat_size(image_shape: Sequence[int]) -> int:
    """Return the number of values in one example of shape `(C, H, W)` or `(D,)`.

    Raises:
        ValueError: If a size is not positive or there is none.

    >>> flat_size((1, 28, 28))
    784
    """
    if len(image_shape) == 0 or any(size < 1 for size in image_shape):
        raise ValueError(f"image_shape must hold positive sizes, found {tuple(image_shape)}")
    return math.prod(image_shape)


def image_size(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """Return channels, height and width of an image, for convolutional networks.

    Raises:
        ValueError: If `image_shape` is not three positive sizes.

    >>> image_size([3, 32, 32])
    (3, 32, 32)
    """
    if len(image_shape) != 3 or any(size < 1 for size in image_shape):
        raise ValueError(
            f"image_shape must be (channels, height, width) for a convolutional backbone, found {tuple(image_shape)}"
        )
    channels, height, width = image_shape
    return channels, height, width


def check_positive(name: str, value: int) -> None:
    """Raise a ValueError if `value` is below 1."""
    if value < 1:
        raise ValueError(f"{name} must be at least 1, found {value}")


def check_dropout(value: float) -> None:
    """Raise a ValueError if `value` is outside [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"dropout must be in [0, 1), found {value}")
