"""TrivialAugment and RandAugment: operations of random kind, and of random or given strength, for each image."""

from typing import Literal

import torch
from torch import Tensor

from .jitter import groups
from .operations import OPERATIONS

Policy = Literal["none", "TrivialAugment", "RandAugment"]
BINS = 31
"""Number of strengths of an operation."""
_WIDE = {"Shear": 0.99, "Rotate": 135.0, "Colour": 0.99, "Bits": 6}
_USUAL = {"Shear": 0.3, "Rotate": 30.0, "Colour": 0.9, "Bits": 4}


def strengths(policy: Policy, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the strengths of each operation in torchvision's spaces.

    Args:
        policy: Which space.
        size: Height and width of the images, in whose shares RandAugment moves them; TrivialAugment moves by pixels.

    Returns:
        float64 `[len(OPERATIONS), BINS]`, and bool `[len(OPERATIONS)]`: whether half of them are to be negative.
    """
    most = _WIDE if policy == "TrivialAugment" else _USUAL
    shift = [32.0, 32.0] if policy == "TrivialAugment" else [150.0 / 331.0 * side for side in size]
    ends = {"ShearX": most["Shear"], "ShearY": most["Shear"], "TranslateX": shift[1], "TranslateY": shift[0]}
    ends |= {"Rotate": most["Rotate"]} | dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), most["Colour"])
    table = {name: torch.linspace(0.0, end, BINS) for name, end in ends.items()}
    table["Posterize"] = 8 - (torch.arange(BINS) / ((BINS - 1) / most["Bits"])).round()
    table["Solarize"] = torch.linspace(255.0, 0.0, BINS)
    rows = [table.get(name, torch.zeros(BINS)) for name in OPERATIONS]
    return torch.stack(rows).double(), torch.tensor([name in ends for name in OPERATIONS])


def draw_operations(
    count: int, policy: Policy, ops: int, magnitude: int, size: tuple[int, int], stream: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw the operations of each image.

    Args:
        count: Number of images n.
        policy: Which space; TrivialAugment draws one operation and its strength, RandAugment `ops` of one strength.
        ops: Number of operations an image, for RandAugment.
        magnitude: Number of their strength, below `BINS`, likewise.
        size: Height and width of the images.
        stream: Source of the random numbers.

    Returns:
        int64 `[n, ops]`: numbers of `OPERATIONS`; and float64 `[n, ops]`: their strengths.
    """
    table, signed = strengths(policy, size)
    shape = (count, 1 if policy == "TrivialAugment" else ops)
    which = torch.randint(len(OPERATIONS), shape, generator=stream)
    level = torch.randint(BINS, shape, generator=stream) if policy == "TrivialAugment" else torch.tensor(magnitude)
    negative = signed[which] & (torch.rand(shape, generator=stream) < 0.5)
    strength = table[which, level]
    return which, torch.where(negative, -strength, strength)


def augmented(images: Tensor, which: Tensor, strength: Tensor) -> Tensor:
    """Apply operations to uint8 images `[B, C, H, W]`, in place.

    Args:
        images: The images.
        which: What `draw_operations` draws, on the CPU.
        strength: Likewise, on the images' device.
    """
    operations = [*OPERATIONS.values()]
    for turn, amounts in zip(which.unbind(1), strength.unbind(1), strict=True):
        for number, rows in groups(turn, images.device):
            operation = operations[number]
            if operation is not None:
                images[rows] = operation(images[rows], amounts[rows])
    return images
