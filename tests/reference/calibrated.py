"""Predictions of a classifier whose calibration is known."""

import torch
from torch import Tensor


def sample(n: int = 600, classes: int = 5, seed: int = 0, sharpness: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return logits and labels of a classifier that is calibrated for `sharpness=1` and overconfident above."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    return sharpness * logits, labels


def binary(n: int = 600, seed: int = 0, sharpness: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the probabilities of class 1, `[n]`, and labels of such a classifier of two classes."""
    logits, labels = sample(n, 2, seed, sharpness)
    return (logits[:, 1] - logits[:, 0]).sigmoid(), labels
