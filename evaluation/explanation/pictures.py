"""Images and maps of their regions as pictures."""

import base64
import io
import math
from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

_SMALLEST = 224  # pixels: smaller images are shown enlarged

Channels = float | Sequence[float] | npt.NDArray[np.floating] | Tensor | None


def to_picture(image: Tensor, mean: Channels = None, std: Channels = None) -> Image.Image:
    """Convert a normalised image `[C, H, W]` to an RGB picture; small images are enlarged, each pixel to a square.

    Three channels are red, green, blue; any other number is averaged to grey. `mean` (0 if only `std` is given) and
    `std` (1 if only `mean` is given) are numbers or one for each channel, otherwise a ValueError. Without both, the
    image is scaled from its minimum to its maximum.

    Example:
        >>> to_picture(torch.zeros(1, 8, 8), mean=0.2, std=0.5).getpixel((0, 0))
        (51, 51, 51)
    """
    values = image.detach().cpu().double()
    if mean is None and std is None:
        values = values - values.amin()
        values = values / values.amax().clamp(min=torch.finfo(values.dtype).tiny)
    else:
        channels = len(values)
        values = values * _each_channel("std", std, 1.0, channels) + _each_channel("mean", mean, 0.0, channels)
    if len(values) != 3:
        values = values.mean(dim=0, keepdim=True).expand(3, -1, -1)
    pixels = (values.clamp(0, 1) * 255).round().to(torch.uint8)
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    times = math.ceil(_SMALLEST / min(picture.size))
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


def _each_channel(name: str, values: Channels, default: float, channels: int) -> Tensor:
    numbers = torch.as_tensor(default if values is None else values, dtype=torch.float64, device="cpu").flatten()
    if len(numbers) not in (1, channels):
        raise ValueError(f"{name} must be a number or one for each of the {channels} channels, found {len(numbers)}")
    return numbers[:, None, None]


def to_heatmap(values: npt.NDArray[np.float64], signed: bool) -> npt.NDArray[np.float64]:
    """Scale a map `[h, w]` to [0, 1]: from its minimum if `signed`, otherwise from 0, and negative values become 0.

    Example:
        >>> to_heatmap(np.array([[-1.0, 0.0, 2.0]]), signed=False).tolist()
        [[0.0, 0.0, 1.0]]
    """
    least = values.min() if signed else 0.0
    span = values.max() - least
    return np.clip((values - least) / span, 0, 1) if span > 0 else np.zeros_like(values)


def stretch(values: Tensor, size: Sequence[int]) -> Tensor:
    """Return a map `[h, w]` at another size, interpolated bilinearly."""
    return F.interpolate(values[None, None], tuple(size), mode="bilinear", align_corners=False)[0, 0]


def to_img(picture: Image.Image, text: str) -> str:
    """Return a picture as an HTML `<img>` with its PNG inside and `text` as its alternative text."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    content = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{content}">'
