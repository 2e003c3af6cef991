"""Batched augmentation that crops, flips and cuts out each image independently.

All random numbers of an epoch are drawn in advance (`draw_plan`), as a pure function of (seed, epoch); `ImageBatch`
makes any batch of the epoch from them. A batch thus depends neither on earlier batches nor on the number of processes
or the device.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._checks import at_least, one_of

Flip = Literal["none", "random", "alternating"]
PaddingMode = Literal["zeros", "reflect"]


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of the training images; `ImageDataModule` documents the options."""

    crop_padding: int = 0
    flip: Flip = "none"
    cutout: int = 0
    padding_mode: PaddingMode = "zeros"

    def __post_init__(self) -> None:
        at_least("crop_padding", self.crop_padding, 0)
        at_least("cutout", self.cutout, 0)
        one_of("flip", self.flip, ("none", "random", "alternating"))
        one_of("padding_mode", self.padding_mode, ("zeros", "reflect"))


class Plan(NamedTuple):
    """Example and random draws at each position of an epoch, or of a slice of it. Unused fields are None."""

    order: Tensor  # int64 [n], example at each position
    top: Tensor | None = None  # int64 [n], rows from the image's top down to the crop's, -padding..padding
    left: Tensor | None = None  # int64 [n], columns from the image's left to the crop's
    flip: Tensor | None = None  # bool [n]
    cut_row: Tensor | None = None  # int64 [n], centre of the square
    cut_column: Tensor | None = None  # int64 [n]

    def slice(self, start: int, stop: int) -> "Plan":
        """Return the positions `start..stop-1`."""
        return Plan._make(None if field is None else field[start:stop] for field in self)

    def to(self, device: torch.device | str) -> "Plan":
        """Return the plan on another device, without waiting for it."""
        fields = [*self]
        if torch.device(device).type == "cuda":
            fields = [None if field is None else field.pin_memory() for field in fields]
        return Plan._make(None if field is None else field.to(device, non_blocking=True) for field in fields)


def generator(*key: int) -> torch.Generator:
    """Return a CPU generator whose stream is a pure function of the key's numbers (each >= 0).

    >>> torch.rand(1, generator=generator(0, 1)) == torch.rand(1, generator=generator(0, 1))
    tensor([True])
    """
    state = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


def draw_plan(
    indices: Tensor,
    *,
    shuffle: bool,
    augmentation: Augmentation | None = None,
    image_size: tuple[int, int] = (1, 1),
    seed: int = 0,
    epoch: int = 0,
) -> Plan:
    """Draw the order and the augmentation of an epoch, as a pure function of the arguments.

    Args:
        indices: Examples of the epoch, int64 `[n]`.
        shuffle: Draw a permutation; otherwise keep the order of `indices`.
        augmentation: Augmentation, or None.
        image_size: Height and width.
        seed: Key of all random numbers, together with `epoch`.
        epoch: 0, 1, ...
    """
    n = len(indices)
    stream = generator(seed, epoch)
    positions = torch.randperm(n, generator=stream) if shuffle else torch.arange(n)
    options, draws = augmentation or Augmentation(), {}
    if options.crop_padding:
        for side in ("top", "left"):
            draws[side] = torch.randint(-options.crop_padding, options.crop_padding + 1, (n,), generator=stream)
    if options.flip == "random":
        draws["flip"] = torch.rand(n, generator=stream) < 0.5
    elif options.flip == "alternating":
        # Drawn per example, not per position, and once for all epochs.
        first = torch.rand(n, generator=generator(seed, 0, 1)) < 0.5
        draws["flip"] = first[positions] ^ bool(epoch % 2)
    if options.cutout:
        for centre, side_length in zip(("cut_row", "cut_column"), image_size, strict=True):
            draws[centre] = torch.randint(side_length, (n,), generator=stream)
    return Plan(indices[positions], **draws)
