"""The changes of an image's bytes before it is normalised, in their order."""

import torch
from torch import Tensor

from .augment import Augmentation, Plan, jitter_amounts
from .auto_augment import augmented
from .boxes import resized_crops
from .jitter import jittered


def changed(images: Tensor, plan: Plan, augmentation: Augmentation) -> Tensor:
    """Return uint8 images `[B, C, H, W]` with what the plan has drawn, but for the crop; they may be overwritten."""
    if plan.box is not None:
        images = resized_crops(images, plan.box)
    if plan.flip is not None:
        images = flip_where(images, plan.flip)
    if plan.vertical is not None:
        images = flip_where(images, plan.vertical, -2)
    if plan.operations is not None and plan.strengths is not None:
        images = augmented(images, plan.operations, plan.strengths)
    if plan.jitter is not None and plan.jitter_order is not None:
        images = jittered(images, plan.jitter, plan.jitter_order, jitter_amounts(augmentation.color_jitter))
    return images


def flip_where(images: Tensor, flip: Tensor, dimension: int = -1) -> Tensor:
    """Mirror the uint8 images `[B, C, H, W]` for which `flip` `[B]` is true, by default left and right.

    `a ^ ((a ^ b) & mask)` is five times faster on a CPU than `torch.where` with a broadcast condition.
    """
    mask = (flip.to(torch.uint8) * 255).view(-1, 1, 1, 1)
    return images.flip(dimension).bitwise_xor_(images).bitwise_and_(mask).bitwise_xor_(images)
