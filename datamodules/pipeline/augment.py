"""Batched augmentation that treats each image independently: its options, and all random numbers of an epoch.

All random numbers of an epoch are drawn in advance (`draw_plan`), as a pure function of (seed, epoch); `ImageBatch`
makes any batch of the epoch from them. A batch thus depends neither on earlier batches nor on the number of processes
or the device.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._checks import at_least, limits, not_negative, one_of, share
from .auto_augment import BINS, Policy, draw_operations
from .boxes import draw_crops, draw_erased
from .jitter import draw_jitter
from .mixing import draw_mixing

Flip = Literal["none", "random", "alternating"]
PaddingMode = Literal["zeros", "reflect"]
ERASED_SCALE, ERASED_RATIO = (0.02, 0.33), (0.3, 3.3)  # torchvision's


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of the training images; `ImageDataModule` documents the options."""

    crop_padding: int = 0
    flip: Flip = "none"
    cutout: int = 0
    padding_mode: PaddingMode = "zeros"
    random_resized_crop: bool = False
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    vertical_flip: float = 0.0
    color_jitter: float | Sequence[float] = 0.0
    random_erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mixup_prob: float = 1.0
    augment: Policy = "none"
    augment_ops: int = 2
    augment_magnitude: int = 9

    def __post_init__(self) -> None:
        at_least("crop_padding", self.crop_padding, 0)
        at_least("cutout", self.cutout, 0)
        one_of("flip", self.flip, ("none", "random", "alternating"))
        one_of("padding_mode", self.padding_mode, ("zeros", "reflect"))
        share("vertical_flip", self.vertical_flip)
        share("random_erasing", self.random_erasing)
        one_of("augment", self.augment, ("none", "TrivialAugment", "RandAugment"))
        at_least("augment_ops", self.augment_ops, 1)
        if not 0 <= at_least("augment_magnitude", self.augment_magnitude, 0) < BINS:
            raise ValueError(f"augment_magnitude must be at most {BINS - 1}, found {self.augment_magnitude}")
        for name in ("augment_ops", "augment_magnitude"):
            if self.augment != "RandAugment" and getattr(self, name) != getattr(Augmentation, name):
                raise ValueError(
                    f"{name}={getattr(self, name)} has no effect without augment=RandAugment; leave it out"
                )
        for name in ("mixup", "cutmix"):
            not_negative(name, getattr(self, name))
        share("mixup_prob", self.mixup_prob)
        if self.mixup_prob != 1 and not self.mixes:
            raise ValueError(f"mixup_prob={self.mixup_prob} has no effect without mixup or cutmix; set one of them")
        own = {
            "crop_scale": limits("crop_scale", self.crop_scale, 1.0),
            "crop_ratio": limits("crop_ratio", self.crop_ratio),
            "color_jitter": jitter_amounts(self.color_jitter),
        }
        for name, value in own.items():
            object.__setattr__(self, name, value)  # tuples, as an augmentation is compared
        if self.random_resized_crop and self.crop_padding:
            raise ValueError(
                f"random_resized_crop and crop_padding={self.crop_padding} are two ways to crop; leave one out"
            )
        for name in ("crop_scale", "crop_ratio"):
            if not self.random_resized_crop and own[name] != getattr(Augmentation, name):
                raise ValueError(f"{name} has no effect without random_resized_crop; set that to true")

    @property
    def jitters(self) -> bool:
        """Whether colours are changed."""
        return any(jitter_amounts(self.color_jitter))

    @property
    def mixes(self) -> bool:
        """Whether images are mixed."""
        return self.mixup > 0 or self.cutmix > 0


def jitter_amounts(value: float | Sequence[float]) -> tuple[float, ...]:
    """Return the largest changes of brightness, contrast, saturation and hue.

    Raises:
        ValueError: If they are negative, or the last is above 0.5.

    >>> jitter_amounts(0.4), jitter_amounts([0.2, 0.2, 0.1, 0.05])
    ((0.4, 0.4, 0.4, 0.0), (0.2, 0.2, 0.1, 0.05))
    """
    given = [value] * 3 if isinstance(value, (int, float)) else [*value]
    amounts = tuple(float(one) for one in given) + (0.0,) * (4 - len(given))
    if isinstance(value, bool) or not 3 <= len(given) <= 4 or not all(0 <= one < math.inf for one in amounts):
        raise ValueError(
            "color_jitter must be a number of at least 0, or three or four (brightness, contrast, saturation, hue), "
            f"found {value!r}"
        )
    if amounts[3] > 0.5:
        raise ValueError(f"color_jitter's fourth number, the hue, must be at most 0.5, found {amounts[3]}")
    return amounts


class Plan(NamedTuple):
    """Example and random draws at each position of an epoch, or of a slice of it. Unused fields are None."""

    order: Tensor  # int64 [n], example at each position
    top: Tensor | None = None  # int64 [n], rows from the image's top down to the crop's, -padding..padding
    left: Tensor | None = None  # int64 [n], columns from the image's left to the crop's
    flip: Tensor | None = None  # bool [n]
    cut_row: Tensor | None = None  # int64 [n], centre of the square
    cut_column: Tensor | None = None  # int64 [n]
    box: Tensor | None = None  # int64 [n, 4], the crop that is scaled to the whole image: top, left, height, width
    vertical: Tensor | None = None  # bool [n], whether to mirror top and bottom
    jitter: Tensor | None = None  # float32 [n, 4], factors of brightness, contrast, saturation, and shift of the hue
    jitter_order: Tensor | None = None  # int64 [n, 4], order in which they are applied; stays on the CPU
    operations: Tensor | None = None  # int64 [n, ops], numbers of operations; stays on the CPU
    strengths: Tensor | None = None  # float64 [n, ops], their strengths
    erase: Tensor | None = None  # int64 [n, 4], what is erased: top, left, height, width
    share: Tensor | None = None  # float32 [n], what a mixed image keeps of its label
    inserted: Tensor | None = None  # int64 [n, 4], the part of its partner that it takes: top, left, height, width

    def slice(self, start: int, stop: int) -> "Plan":
        """Return the positions `start..stop-1`."""
        return Plan._make(None if field is None else field[start:stop] for field in self)

    @property
    def changes_bytes(self) -> bool:
        """Whether the bytes of the images are changed, beyond a shift and a flip."""
        return any(field is not None for field in (self.box, self.vertical, self.jitter, self.operations))

    def to(self, device: torch.device | str) -> "Plan":
        """Return the plan on another device, without waiting for it."""
        fields = {name: field for name, field in self._asdict().items() if field is not None and name not in ON_CPU}
        if torch.device(device).type == "cuda":
            fields = {name: field.pin_memory() for name, field in fields.items()}
        return self._replace(**{name: field.to(device, non_blocking=True) for name, field in fields.items()})


ON_CPU = {"jitter_order", "operations"}
"""Fields that say which images an operation is for, which the CPU has to know."""


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
    draws |= _further_draws(n, options, image_size, seed, epoch)
    return Plan(indices[positions], **draws)


def _further_draws(n: int, options: Augmentation, size: tuple[int, int], seed: int, epoch: int) -> dict[str, Tensor]:
    """Draw the options that have a stream of their own: one does not change what another draws."""
    draws: dict[str, Tensor] = {}
    if options.random_resized_crop:
        draws["box"] = draw_crops(n, size, options.crop_scale, options.crop_ratio, generator(seed, epoch, 2))
    if options.vertical_flip:
        draws["vertical"] = torch.rand(n, generator=generator(seed, epoch, 3)) < options.vertical_flip
    if options.jitters:
        amounts = jitter_amounts(options.color_jitter)
        draws["jitter"], draws["jitter_order"] = draw_jitter(n, amounts, generator(seed, epoch, 4))
    if options.random_erasing:
        stream = generator(seed, epoch, 5)
        draws["erase"] = draw_erased(options.random_erasing, n, size, ERASED_SCALE, ERASED_RATIO, stream)
    if options.augment != "none":
        given = options.augment, options.augment_ops, options.augment_magnitude
        draws["operations"], draws["strengths"] = draw_operations(n, *given, size, generator(seed, epoch, 7))
    if options.mixes:
        alphas = options.mixup, options.cutmix
        draws["share"], draws["inserted"] = draw_mixing(n, size, *alphas, options.mixup_prob, (seed, epoch, 6))
    return draws
