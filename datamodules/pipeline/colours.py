"""Changes of colour, by an amount of its own for each image, with the bits of torchvision's functions.

Images are uint8 `[B, C, H, W]` with one channel or three, amounts `[B]`. What is taken over a whole image is
a sum of integers: the result of an image does not depend on the batch.
"""

import torch
from torch import Tensor

# Which of value, q, p, t is red, green and blue in each sixth of the circle of hues.
_SIXTHS = ((0, 1, 2, 2, 3, 0), (3, 0, 0, 1, 2, 2), (2, 2, 3, 0, 0, 1))


def blend(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Return `share * first + (1 - share) * second` as bytes; a share above 1 moves away from the second."""
    share = share.view(-1, 1, 1, 1)
    return (share.float() * first).add_((1.0 - share).float() * second).clamp_(0, 255).to(torch.uint8)


def grey(images: Tensor) -> Tensor:
    """Return the luma of each pixel, uint8 `[B, 1, H, W]`.

    >>> grey(torch.tensor([200, 100, 50], dtype=torch.uint8).view(1, 3, 1, 1)).item()
    124
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).to(torch.uint8)[:, None]


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply all values."""
    return (factor.float().view(-1, 1, 1, 1) * images).clamp_(0, 255).to(torch.uint8)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distances from the image's mean luma."""
    luma = grey(images)
    mean = luma.sum((1, 2, 3), keepdim=True).float() / luma[0].numel()
    return blend(images, mean, factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distances from the luma of each pixel."""
    return images if images.shape[1] == 1 else blend(images, grey(images), factor)


def hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hues by a share of the circle."""
    if images.shape[1] == 1:
        return images
    rgb = images.float() / 255
    red, green, _ = rgb.unbind(1)
    value, least = rgb.amax(1), rgb.amin(1)
    chroma = value - least
    flat = chroma == 0
    saturated = chroma / torch.where(flat, 1.0, value)
    to_red, to_green, to_blue = ((value[:, None] - rgb) / torch.where(flat, 1.0, chroma)[:, None]).unbind(1)
    angle = torch.where(value == green, 2.0 + to_red - to_blue, 4.0 + to_green - to_red)
    angle = torch.where(value == red, to_blue - to_green, angle)
    turned = ((angle / 6.0 + 1.0).fmod(1.0) + shift.view(-1, 1, 1)) % 1.0 * 6.0
    sixth = turned.floor()
    part = turned - sixth
    levels = torch.stack(
        [value, value * (1 - saturated * part), value * (1 - saturated), value * (1 - saturated * (1 - part))], 1
    )
    which = torch.tensor(_SIXTHS, device=images.device)[:, (sixth.long() % 6)].transpose(0, 1)
    return (levels.gather(1, which).clamp_(0, 1) * (256 - 1e-3)).to(torch.uint8)
