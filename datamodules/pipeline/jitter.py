"""Colour jitter: brightness, contrast, saturation and hue of each image, in an order of its own."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from . import colours

_CHANGES = (colours.brightness, colours.contrast, colours.saturation, colours.hue)


def draw_jitter(count: int, amounts: Sequence[float], stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw what torchvision's `ColorJitter` draws for each image.

    Args:
        count: Number of images n.
        amounts: Largest change of brightness, contrast, saturation (of their factors from 1) and hue (in circles).
        stream: Source of the random numbers.

    Returns:
        float32 `[n, 4]`: factors of brightness, contrast and saturation, and the shift of the hue; and int64 `[n, 4]`:
        the order in which they are applied.
    """
    most = torch.tensor(amounts, dtype=torch.float64)
    middle = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    low = torch.maximum(middle - most, torch.tensor([0.0, 0.0, 0.0, -0.5], dtype=torch.float64))
    uniform = torch.rand(count, 4, dtype=torch.float64, generator=stream)
    order = torch.rand(count, 4, dtype=torch.float64, generator=stream).argsort(1)
    return (low + (middle + most - low) * uniform).float(), order


def jittered(images: Tensor, amounts: Tensor, order: Tensor, active: Sequence[float]) -> Tensor:
    """Change the colours of uint8 images `[B, C, H, W]` in place.

    Args:
        images: The images.
        amounts: What `draw_jitter` draws, on the images' device.
        order: Likewise, on the CPU.
        active: The amounts given to `draw_jitter`: where one is 0, nothing is changed.
    """
    for turn in order.unbind(1):
        for which, rows in groups(turn, images.device):
            if active[which]:
                images[rows] = _CHANGES[which](images[rows], amounts[rows, which])
    return images


def groups(choice: Tensor, device: torch.device) -> Iterator[tuple[int, Tensor]]:
    """Yield each number in `choice` with the places where it is, on another device, for which nothing waits.

    >>> [(number, places.tolist()) for number, places in groups(torch.tensor([2, 0, 2]), torch.device("cpu"))]
    [(0, [1]), (2, [0, 2])]
    """
    counts = choice.bincount().tolist()
    places = choice.argsort(stable=True)
    if device.type == "cuda":
        places = places.pin_memory()
    for number, rows in enumerate(places.to(device, non_blocking=True).split(counts)):
        if len(rows):
            yield number, rows
