"""Mean and standard deviation of the training data, and normalisation by them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]


def sums_of(image: Pixels) -> NDArray[np.int64]:
    """Return the exact sums of pixels and squared pixels per channel: int64 `[C, 2]` from uint8 `[C, H, W]`.

    >>> sums_of(np.array([[[3, 4]]], dtype=np.uint8))
    array([[ 7, 25]])
    """
    wide = image.reshape(len(image), -1).astype(np.int64)
    return np.stack([wide.sum(1), (wide * wide).sum(1)], axis=1)


def mean_and_std(sums: NDArray[np.int64], pixels: int) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel, in units of the full scale 255.

    The variance `(n * sum(x^2) - sum(x)^2) / n^2` is formed from integers, so that nothing cancels.

    Args:
        sums: `sums_of` each image, int64 `[N, C, 2]`.
        pixels: Number of pixels of an image.

    >>> mean_and_std(np.array([[[510, 130050]]]), pixels=4)
    ([0.5], [0.5])
    """
    n = len(sums) * pixels
    mean, std = [], []
    for first, second in sums.sum(0).tolist():
        mean.append(first / n / 255)
        std.append((n * second - first * first) ** 0.5 / n / 255)
    return mean, std


def normalisation(mean: Sequence[float], std: Sequence[float], unit: float) -> tuple[Tensor, Tensor]:
    """Return the float32 pair `(unit * mean, 1 / (unit * std))` of `(x - shift) * scale`.

    Compilers cannot contract a subtraction before a multiplication to a fused multiply-add, so that compiled and plain
    code give the same bits. A constant channel (standard deviation 0) is only shifted.
    """
    shift = torch.tensor([unit * m for m in mean], dtype=torch.float64).float()
    scale = torch.tensor([1 / (unit * (s if s > 0 else 1.0)) for s in std], dtype=torch.float64).float()
    return shift, scale
