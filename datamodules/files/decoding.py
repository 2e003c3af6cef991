"""One image file as RGB or grey pixels."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps

from ..pipeline.scaling import Pixels
from .messages import shown

VERSION = 1
"""Counts the changes of what is decoded from the same file, for the cache."""
GAP = 2
"""A reduced image has at least this many times the pixels of its side that are wanted, as in `Image.thumbnail`."""
SERIES = {"AVIF", "DCX", "FLI", "GIF", "PNG", "TIFF", "WEBP"}
"""Formats in which several frames are a film or pages, not another version of the same picture."""


@dataclass(frozen=True)
class Decoding:
    """How image files become RGB pixels; see `ImageFolderDataModule`."""

    image_size: int | tuple[int, int] | None = None  # of a square, or height and width
    background: str = "white"
    value_range: tuple[float, float] | None = None
    reduced: bool = False
    grey: bool = False  # one channel in place of three

    @property
    def sides(self) -> tuple[int, int] | None:
        """Return height and width, or None for those of the file."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size

    def __str__(self) -> str:
        """Return what the pixels depend on besides the size, for the cache's checksum."""
        return f"{VERSION} {self.background} {self.value_range}{' reduced' if self.reduced else ''}"


class Decoded(NamedTuple):
    """The pixels of an image file."""

    pixels: Pixels  # uint8 [3, H, W]
    is_first: bool  # whether the file has further frames, which are left out


@contextmanager
def of_any_size() -> Iterator[None]:
    """Silence Pillow's warning of large images, which are a user's own; it still refuses those of twice that size.

    Not a part of `decode`: threads share the filters of warnings.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def decode(path: Path, how: Decoding) -> Decoded:
    """Read the first frame of an image file as RGB, upright by its EXIF orientation, uint8 `[3, H, W]` (grey: 1).

    Raises:
        OSError: If the file cannot be read.
        ValueError: If its values have more than 8 bits, and a range that only the user knows.
    """
    try:
        # Given the path alone, Pillow maps a plain TIFF into memory and then forgets to turn it upright.
        with open(path, "rb") as source, Image.open(source) as file:
            is_first = file.format in SERIES and getattr(file, "is_animated", False)
            whole = _has_32_bits(file)
            if how.reduced and how.sides is not None:  # which only JPEG knows
                file.draft(None, (GAP * how.sides[1], GAP * how.sides[0]))
            ImageOps.exif_transpose(file, in_place=True)  # reads the pixels
            if file.mode[0] in "IF":
                values, key = np.array(file), file.info.get("transparency")
            else:
                image, values = _flat(file, how.background), None
    except Exception as error:  # whatever a decoder meets in a broken file
        text = re.sub(r" <_io\.BufferedReader .*>", "", str(error)).replace(f": {str(path)!r}", "")
        reason = " ".join(text.split()) or type(error).__name__
        raise OSError(f"image {shown(path)} cannot be read ({shown(reason)}); replace it or remove it") from error
    if values is not None:
        pixels = np.repeat(_bytes(values, _range(path, values, whole, how))[..., None], 3, axis=2)
        if isinstance(key, int):
            pixels[values == key] = ImageColor.getrgb(how.background)[:3]
        image = Image.fromarray(pixels)
    if how.sides is not None:
        image = _middle_part(image, *how.sides)
    if how.grey:
        return Decoded(np.array(image.convert("L"))[None], is_first)
    return Decoded(np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)), is_first)


def _flat(image: Image.Image, background: str) -> Image.Image:
    """Return an image of up to 8 bits as RGB, what is transparent over the background."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, ImageColor.getrgb(background))
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


def _has_32_bits(file: Image.Image) -> bool:
    """Return whether the file stores whole numbers of 32 bits; Pillow reads some of 16 bits as such numbers."""
    tags: Any = getattr(file, "tag_v2", {})
    return file.mode == "I" and max(np.ravel(tags.get(258, 16))) > 16  # BitsPerSample


def _range(path: Path, values: NDArray[Any], whole: bool, how: Decoding) -> tuple[float, float]:
    """Return the values that become 0 and 255: those of 16 bits, 0 and 1 for floats, or the user's."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError(f"image {shown(path)} holds values that are not finite; replace them or remove it")
    if how.value_range is not None:
        return how.value_range
    least, most, kind = (0, 1, "a float image") if values.dtype.kind == "f" else (0, 65535, "16 bits")
    if whole or low < least or high > most:
        has = "whole numbers of 32 bits" if whole else f"values beyond the {least} to {most} of {kind}"
        raise ValueError(
            f"image {shown(path)} has {has}, found {low:g} to {high:g}; "
            f"name the values that are black and white, such as --data.value_range [{low:g},{high:g}]"
        )
    return least, most


def _bytes(values: NDArray[Any], limits: tuple[float, float]) -> NDArray[np.uint8]:
    """Scale values to 0..255 and round them."""
    low, high = limits
    scaled = (np.clip(values.astype(np.float64), low, high) - low) * (255 / (high - low))
    return np.rint(scaled).astype(np.uint8)


def _middle_part(image: Image.Image, height: int, width: int) -> Image.Image:
    """Scale an image until it covers `height` x `width` and keep the middle; one of that size is not scaled."""
    if image.size == (width, height):
        return image
    factor = max(width / image.width, height / image.height)
    left, right = _middle(image.width, factor, width)
    top, bottom = _middle(image.height, factor, height)
    return image.resize((width, height), Image.Resampling.BILINEAR, box=(left, top, right, bottom))


def _middle(length: int, factor: float, side: int) -> tuple[float, float]:
    """Return which part of a length becomes the middle `side` pixels when the length is scaled to whole pixels."""
    scaled = max(side, round(length * factor))
    offset = (scaled - side) // 2
    return offset * length / scaled, min((offset + side) * length / scaled, length)
