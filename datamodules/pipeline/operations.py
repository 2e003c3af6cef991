"""The operations of RandAugment and TrivialAugment, with a strength of its own for each image.

Images are uint8 `[B, C, H, W]` with one channel or three, strengths float64 `[B]`. What is taken over a whole image is
made of integers, and geometry is computed pixel by pixel: the result of an image does not depend on the batch.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from . import colours

Operation = Callable[[Tensor, Tensor], Tensor]


def affine(images: Tensor, matrix: Tensor) -> Tensor:
    """Return the nearest pixels at the places `matrix (x, y, 1)`, black outside of the image.

    Args:
        images: The images.
        matrix: float64 `[B, 2, 3]`; places are counted in pixels from the middle.
    """
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device) + (0.5 - width / 2)
    y = torch.arange(height, device=images.device)[:, None] + (0.5 - height / 2)
    whole = torch.tensor([[width / 2], [height / 2]], dtype=matrix.dtype, device=matrix.device)
    a, b, c = (matrix / whole).float()[..., None, None].unbind(2)  # of each [B, 2, 1, 1]
    grid = a * x + b * y + c
    return F.grid_sample(images.float(), grid.permute(0, 2, 3, 1), mode="nearest", align_corners=False).to(torch.uint8)


def _matrix(*rows: tuple[Tensor | float, ...]) -> Tensor:
    """Return matrices `[B, 2, 3]` from their elements, numbers or `[B]`."""
    some = next(one for row in rows for one in row if isinstance(one, Tensor))
    return torch.stack([torch.stack([torch.zeros_like(some) + one for one in row], 1) for row in rows], 1)


def shear_x(images: Tensor, strength: Tensor) -> Tensor:
    """Move each row by `strength` times its distance from the top."""
    s = strength.double()
    return affine(images, _matrix((1, s, s * (images.shape[-2] / 2)), (0, 1, 0)))


def shear_y(images: Tensor, strength: Tensor) -> Tensor:
    """Move each column by `strength` times its distance from the left."""
    s = strength.double()
    return affine(images, _matrix((1, 0, 0), (s, 1, s * (images.shape[-1] / 2))))


def translate_x(images: Tensor, strength: Tensor) -> Tensor:
    """Move to the right by whole pixels."""
    return affine(images, _matrix((1, 0, -strength.double().trunc()), (0, 1, 0)))


def translate_y(images: Tensor, strength: Tensor) -> Tensor:
    """Move down by whole pixels."""
    return affine(images, _matrix((1, 0, 0), (0, 1, -strength.double().trunc())))


def rotate(images: Tensor, strength: Tensor) -> Tensor:
    """Turn against the clock by degrees."""
    angle = strength.double().deg2rad()
    return affine(images, _matrix((angle.cos(), -angle.sin(), 0), (angle.sin(), angle.cos(), 0)))


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distances from the image smoothed by 3 x 3 pixels; the border stays."""
    height, width = images.shape[-2:]
    if min(height, width) <= 2:
        return images
    wide = images.int()
    total = 4 * wide[..., 1:-1, 1:-1]
    for row in range(3):
        for column in range(3):
            total += wide[..., row : row + height - 2, column : column + width - 2]
    smooth = images.clone()
    smooth[..., 1:-1, 1:-1] = (2 * total + 13).div_(26, rounding_mode="floor")  # total / 13, rounded
    return colours.blend(images, smooth, factor)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest bits of each value."""
    mask = 256 - 2 ** (8 - bits.int())
    return images & mask.to(torch.uint8).view(-1, 1, 1, 1)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values from a threshold on."""
    return torch.where(images >= threshold.view(-1, 1, 1, 1), 255 - images, images)


def autocontrast(images: Tensor, strength: Tensor) -> Tensor:
    """Spread the values of each channel from 0 to 255."""
    low, high = images.amin((-2, -1), keepdim=True).float(), images.amax((-2, -1), keepdim=True).float()
    flat = low == high
    scale = torch.where(flat, 1.0, 255 / torch.where(flat, 1.0, high - low))
    return ((images - torch.where(flat, 0.0, low)) * scale).clamp_(0, 255).to(torch.uint8)


def equalize(images: Tensor, strength: Tensor) -> Tensor:
    """Give each channel a histogram that is as even as possible."""
    values = images.flatten(2).flatten(0, 1).long()
    rows, pixels = values.shape
    places = (values + 256 * torch.arange(rows, device=images.device)[:, None]).view(-1)
    histogram = torch.zeros(rows * 256, dtype=torch.long, device=images.device)
    histogram = histogram.scatter_add_(0, places, torch.ones_like(places)).view(rows, 256)
    step = (pixels - histogram.gather(1, values.amax(1, keepdim=True))) // 255
    table = (histogram.cumsum(1) + step // 2) // step.clamp(min=1)
    table = F.pad(table, [1, 0])[:, :-1].clamp(0, 255)
    return torch.where(step == 0, values, table.gather(1, values)).to(torch.uint8).view(images.shape)


def _from_one(change: Operation, images: Tensor, strength: Tensor) -> Tensor:
    return change(images, 1.0 + strength)


OPERATIONS: dict[str, Operation | None] = {
    "Identity": None,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
    "Rotate": rotate,
    "Brightness": partial(_from_one, colours.brightness),
    "Color": partial(_from_one, colours.saturation),
    "Contrast": partial(_from_one, colours.contrast),
    "Sharpness": partial(_from_one, sharpness),
    "Posterize": posterize,
    "Solarize": solarize,
    "AutoContrast": autocontrast,
    "Equalize": equalize,
}
"""The operations by torchvision's names."""
