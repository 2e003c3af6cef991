"""Test-time augmentation: the mean over six views of each image."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

SUFFIX = "_tta"
"""Added to the names of metrics of the mean over the views."""


def six_views(network: Callable[[Tensor], Tensor], images: Tensor, logits: Tensor) -> Tensor:
    """Return the logits of images, averaged over mirror images and shifts (Jordan 2024, arXiv 2404.00498).

    The views are the image, the image shifted by one pixel down and right, and by one up and left (the border is
    filled by reflection), and the mirror image of each. A view and its mirror image count the same; the two that are
    not shifted are one half of the mean, the four that are shifted the other.

    Args:
        network: Gives the logits `[N, K]` of images.
        images: `[N, C, H, W]`, at least 2 x 2.
        logits: What the network gives for the images as they are.

    Returns:
        `[N, K]`.

    >>> import torch
    >>> images = torch.arange(4.0).view(1, 1, 2, 2)
    >>> six_views(lambda images: images[:, 0, 0], images, images[:, 0, 0])
    tensor([[1.5000, 1.5000]])
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
    shifted = [padded[..., start : start + height, start : start + width] for start in (0, 2)]
    mirrored = [network(view.flip(-1)) for view in (images, *shifted)]
    plain = [logits, *(network(view) for view in shifted)]
    centre, first, second = ((one + other) / 2 for one, other in zip(plain, mirrored, strict=True))
    return centre / 2 + (first + second) / 4
