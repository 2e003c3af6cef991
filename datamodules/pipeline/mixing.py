"""Mixup and CutMix: each image with its neighbour in the order of the epoch, and labels that are shares of classes.

The order of an epoch is random, and so are its neighbours: 0 and 1, 2 and 3, ... of an odd number the last one takes
the one before it. A batch thus holds nearly all partners itself, and an image does not depend on the batch.
"""

import numpy as np
import torch
from torch import Tensor

from .boxes import rectangles


def draw_mixing(
    count: int, size: tuple[int, int], mixup: float, cutmix: float, probability: float, key: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Draw how each image is mixed with its partner, as torchvision's `MixUp` and `CutMix` do for a batch.

    The share of an image is of the distribution Beta(alpha, alpha). With both methods each has probability 1/2.

    Args:
        count: Number of images n.
        size: Height and width.
        mixup: alpha of mixup; 0: none.
        cutmix: alpha of CutMix, likewise.
        probability: Share of the images that are mixed.
        key: What the random numbers depend on.

    Returns:
        float32 `[n]`: the share of its label that an image keeps; and int64 `[n, 4]`: the box (top, left, height,
        width) that it takes from its partner. A box without height: the pixels are mixed as the labels.
    """
    stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
    is_mixed, is_cut = stream.random(count) < probability, stream.random(count) < (0.5 if mixup else 1.0)
    row, column = (stream.integers(side, size=count) for side in size)
    share = np.ones(count) if not mixup else stream.beta(mixup, mixup, count)
    boxes = np.zeros((count, 4), dtype=np.int64)
    if cutmix:
        half = 0.5 * np.sqrt(1 - stream.beta(cutmix, cutmix, count))
        edges = []
        for centre, side in zip((row, column), size, strict=True):
            reach = (half * side).astype(np.int64)
            edges.append((np.maximum(centre - reach, 0), np.minimum(centre + reach, side)))
        (top, bottom), (left, right) = edges
        boxes = np.stack([top, left, bottom - top, right - left], 1)
        kept = 1 - boxes[:, 2] * boxes[:, 3] / (size[0] * size[1])
        share = np.where(is_cut, kept, share)
        boxes *= (is_cut & is_mixed & (kept < 1))[:, None]
    share = np.where(is_mixed, share, 1.0)
    return torch.from_numpy(share).float(), torch.from_numpy(boxes)


def window(start: int, stop: int, total: int) -> tuple[int, int]:
    """Return the positions (start, stop) that hold those of a batch and their partners.

    >>> window(4, 8, 9), window(5, 8, 9), window(4, 7, 9), window(8, 9, 9)
    ((4, 8), (4, 8), (4, 8), (7, 9))
    """
    first = start - start % 2
    if stop == total and total % 2:
        first = min(first, max(total - 2, 0))
    return first, min(stop + stop % 2, total)


def partners(start: int, stop: int, total: int, device: torch.device | str) -> Tensor:
    """Return the positions of the partners of the positions `start..stop-1`.

    >>> partners(0, 5, 5, "cpu").tolist()
    [1, 0, 3, 2, 3]
    """
    positions = torch.arange(start, stop, device=device)
    return torch.where((positions ^ 1) < total, positions ^ 1, positions - 1).clamp_(min=0)


def mixed(images: Tensor, partner: Tensor, share: Tensor, boxes: Tensor) -> Tensor:
    """Return images with a box of their partner's, or their sum with it by shares; float `[B, C, H, W]`."""
    share = share.view(-1, 1, 1, 1)
    inserted = torch.where(rectangles(boxes, *images.shape[-2:]), partner, images)
    return torch.where(boxes[:, 2].view(-1, 1, 1, 1) > 0, inserted, images * share + partner * (1.0 - share))


def mixed_labels(labels: Tensor, partner: Tensor, share: Tensor, num_classes: int) -> Tensor:
    """Return the share of each class, float32 `[B, K]`.

    >>> mixed_labels(torch.tensor([0, 1]), torch.tensor([2, 1]), torch.tensor([0.75, 0.75]), 3).tolist()
    [[0.75, 0.0, 0.25], [0.0, 1.0, 0.0]]
    """
    classes, share = torch.arange(num_classes, device=labels.device), share[:, None]
    return (classes == labels[:, None]) * share + (classes == partner[:, None]) * (1.0 - share)
