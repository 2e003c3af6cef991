"""From stored examples to a batch, by the same tensor operations for every loader and device."""

import copy
import functools
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .augment import Augmentation, Plan
from .boxes import erased
from .changes import changed
from .scaling import normalisation

# Device types on which a Triton kernel makes a batch.
KERNEL_DEVICES = {"cuda"}
# Masks of all shifts that need more bytes are computed for each batch instead.
TABLE_BYTES = 1 << 22


class ImageStore:
    """N uint8 images, stored once, in one flat tensor with a margin at either end.

    A crop shifted by whole rows and columns is one run of bytes of this tensor, apart from the pixels outside the
    image, which `ImageBatch` blackens afterwards. Cropping thus costs one copy per image, without a padded copy of the
    set; the margin keeps the runs of the first and the last image inside the tensor.

    Args:
        count: Number of images.
        shape: Channels, height and width.
        margin: Largest shift in rows and columns.
        device: Device of the tensor.
    """

    def __init__(
        self, count: int, shape: Sequence[int], margin: int = 0, device: torch.device | str | None = None
    ) -> None:
        self.count, self.margin = count, margin
        self.channels, self.height, self.width = shape
        self._bytes = self.channels * self.height * self.width
        self._edge = margin * (self.width + 1)
        self.flat = torch.empty(2 * self._edge + count * self._bytes, dtype=torch.uint8, device=device)

    @classmethod
    def of(cls, images: Tensor, margin: int = 0) -> "ImageStore":
        """Return a store that holds a copy of the images `[N, C, H, W]`."""
        store = cls(len(images), images.shape[1:], margin, images.device)
        store.images.copy_(images)
        return store

    @property
    def images(self) -> Tensor:
        """Return the images as a view `[N, C, H, W]`; write into it to fill the store."""
        body = self.flat[self._edge : self._edge + self.count * self._bytes]
        return body.view(self.count, self.channels, self.height, self.width)

    def to(self, device: torch.device) -> "ImageStore":
        """Return this store on `device`; on its own device both share the tensor."""
        moved = copy.copy(self)
        moved.flat = self.flat.to(device)
        return moved

    def crops(self, plan: Plan) -> Tensor:
        """Return the images `plan.order`, shifted by `plan.top` and `plan.left`: uint8 `[B, C, H, W]`.

        Pixels outside the image have arbitrary values.
        """
        starts = plan.order * self._bytes
        starts += self._edge
        if plan.top is not None and plan.left is not None:
            starts += plan.top * self.width
            starts += plan.left
        # Every run of the tensor as a row of a matrix. The rows overlap; only the selected ones are read.
        runs = self.flat.as_strided((len(self.flat) - self._bytes + 1, self._bytes), (1, 1))
        return runs.index_select(0, starts).view(-1, self.channels, self.height, self.width)

    def reflected(self, plan: Plan) -> Tensor:
        """Return the same crops; a pixel outside the image is its mirror image at the border, which is not repeated."""
        if plan.top is None or plan.left is None:
            return self.crops(plan)
        rows = mirrored(plan.top, self.height)[:, None, :, None]
        columns = mirrored(plan.left, self.width)[:, None, None, :]
        channels = torch.arange(self.channels, device=self.flat.device).view(1, -1, 1, 1)
        return self.images[plan.order.view(-1, 1, 1, 1), channels, rows, columns]

    def fill(self, out: Tensor, plan: Plan, shift: Tensor, scale: Tensor, augmentation: Augmentation) -> Tensor:
        """Fill a batch on CUDA in one launch; see `ImageBatch`."""
        reflect = augmentation.padding_mode == "reflect"
        result: Tensor = kernels().launch(out, self.flat, self._edge, plan, shift, scale, augmentation.cutout, reflect)
        return result


class ImageBatch:
    """Makes a batch `[B, C, H, W]` from a store: crop, flip, change colours, normalise, cut out, erase.

    On CUDA shifts, flips and squares are one launch of a Triton kernel (several of torch's without Triton, or if bytes
    are changed in other ways), with the same float32 bits.

    Args:
        image_shape: Channels, height and width.
        mean: Mean of each channel, in units of the full scale 255.
        std: Standard deviation of each channel, likewise.
        augmentation: The augmentation with which the plans were drawn.
        compile_for: Batch size for which code is compiled; batches of another size, such as a smaller last one, are
            made by plain code with the same bits. None: compile nothing. The Triton kernel needs none.
        dtype: Type of the batch; float16 and bfloat16 are rounded from float32.
        channels_last: Give the batch the memory format `torch.channels_last`.

    Raises:
        ValueError: If images are to be mirrored at their border over more pixels than they have, or have no colours to
            change.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        augmentation: Augmentation | None = None,
        compile_for: int | None = None,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
    ) -> None:
        self.image_shape = tuple(image_shape)
        self.augmentation = augmentation or Augmentation()
        self._reflects = self.augmentation.padding_mode == "reflect" and self.augmentation.crop_padding > 0
        if self._reflects and self.augmentation.crop_padding >= min(self.image_shape[1:]):
            raise ValueError(
                "crop_padding must be less than the height and width of the images with padding_mode='reflect', found "
                f"{self.augmentation.crop_padding} for images of {self.image_shape[1]} x {self.image_shape[2]}"
            )
        colours = "augment" if self.augmentation.augment != "none" else "color_jitter"
        if (self.augmentation.jitters or colours == "augment") and self.image_shape[0] not in (1, 3):
            raise ValueError(f"{colours} needs images with 1 or 3 channels, found {self.image_shape[0]}")
        self.set_format(dtype, channels_last)
        shift, scale = normalisation(mean, std, 255.0)
        self._shift, self._scale = shift.view(1, -1, 1, 1), scale.view(1, -1, 1, 1)
        self._inside = self._inside_table()
        self._compile_for = compile_for

    def set_format(self, dtype: torch.dtype, channels_last: bool) -> None:
        """Change the type and the memory format of the batches."""
        self._dtype = dtype
        self._format = torch.channels_last if channels_last else torch.contiguous_format

    def to(self, device: torch.device) -> "ImageBatch":
        """Move the constants to `device`."""
        self._shift, self._scale = self._shift.to(device), self._scale.to(device)
        if self._inside is not None:
            self._inside = self._inside.to(device)
        return self

    def collate(self, raw: Tensor) -> ImageStore:
        """Return a small store with one batch of raw images `[B, C, H, W]`."""
        return ImageStore.of(raw, self.augmentation.crop_padding)

    def __call__(self, store: ImageStore, plan: Plan) -> Tensor:
        """Return the batch of the positions in `plan`."""
        if store.flat.device.type in KERNEL_DEVICES and not plan.changes_bytes and kernels() is not None:
            out = torch.empty(
                (len(plan.order), *self.image_shape),
                dtype=self._dtype,
                device=store.flat.device,
                memory_format=self._format,
            )
            images = store.fill(out, plan, self._shift.view(-1), self._scale.view(-1), self.augmentation)
        else:
            images = self._normalised(store, plan).to(self._dtype, memory_format=self._format)
        return images if plan.erase is None else erased(images, plan.erase)

    def _normalised(self, store: ImageStore, plan: Plan) -> Tensor:
        crops = store.reflected(plan) if self._reflects else store.crops(plan)
        if not self._reflects and plan.top is not None and plan.left is not None:
            crops *= self._inside_mask(plan.top, plan.left)
        crops = changed(crops, plan, self.augmentation)
        arguments = (crops.float(), self._shift, self._scale, plan.cut_row, plan.cut_column, self.augmentation.cutout)
        if len(crops) != self._compile_for:
            return normalise(*arguments)
        try:
            return compiled_normalise()(*arguments)
        except Exception as error:  # any missing part of the compiler; plain code raises a genuine error again
            reason = " ".join(str(error).split("\n\n")[0].split())
            warnings.warn(f"compile=True has no effect, batches are made by plain code: {reason}", stacklevel=2)
            self._compile_for = None
            return normalise(*arguments)

    def _inside_table(self) -> Tensor | None:
        """Return the masks of all shifts, or None if they are not needed or need too much memory."""
        pad, (_, height, width) = self.augmentation.crop_padding, self.image_shape
        side = 2 * pad + 1
        if not pad or self._reflects or side * side * height * width > TABLE_BYTES:
            return None
        shifts = torch.arange(-pad, pad + 1)
        return inside(shifts.repeat_interleave(side), shifts.repeat(side), height, width)

    def _inside_mask(self, top: Tensor, left: Tensor) -> Tensor:
        pad, (_, height, width) = self.augmentation.crop_padding, self.image_shape
        if self._inside is None:
            return inside(top, left, height, width)
        return self._inside.index_select(0, (top + pad) * (2 * pad + 1) + (left + pad))


def mirrored(start: Tensor, size: int) -> Tensor:
    """Return the places `start..start + size - 1` in `[B, size]`, mirrored into the image where they are outside.

    >>> mirrored(torch.tensor([-2, 1]), 3).tolist()
    [[2, 1, 0], [1, 2, 1]]
    """
    places = (start[:, None] + torch.arange(size, device=start.device)).abs()
    return size - 1 - (size - 1 - places).abs()


@functools.cache
def kernels() -> Any:
    """Return the module of the Triton kernel, or None without Triton or a C compiler."""
    try:
        from . import _kernels
    except ImportError:
        return None
    # With which Triton builds what launches a kernel.
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return _kernels if compiler else None


def inside(top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Return 1 where a crop shifted by `top` rows and `left` columns is inside the image, 0 elsewhere: `[B, 1, H, W]`.

    >>> inside(torch.tensor([1]), torch.tensor([-1]), 2, 2).tolist()
    [[[[0, 1], [0, 0]]]]
    """
    return square(-top, -left, height, width, height, width).to(torch.uint8)


def square(top: Tensor, left: Tensor, rows: int, columns: int, height: int, width: int) -> Tensor:
    """Return a mask of the rectangle with this corner and size: bool `[B, 1, H, W]`."""
    y = torch.arange(height, device=top.device) - top[:, None]
    x = torch.arange(width, device=top.device) - left[:, None]
    return (((y >= 0) & (y < rows))[:, None, :, None]) & (((x >= 0) & (x < columns))[:, None, None, :])


def normalise(
    images: Tensor, shift: Tensor, scale: Tensor, cut_row: Tensor | None, cut_column: Tensor | None, cutout: int
) -> Tensor:
    """Compute `(images - shift) * scale` in place, and set squares around (`cut_row`, `cut_column`) to 0, the mean."""
    images.sub_(shift).mul_(scale)
    if cut_row is not None and cut_column is not None:
        height, width = images.shape[-2:]
        top, left = cut_row - cutout // 2, cut_column - cutout // 2
        images.masked_fill_(square(top, left, cutout, cutout, height, width), 0.0)
    return images


@functools.cache
def compiled_normalise() -> Callable[..., Tensor]:
    """Return `normalise`, compiled; not an attribute of `ImageBatch`, which could not be pickled then."""
    return torch.compile(normalise, dynamic=False)


class FlatBatch:
    """Makes a float32 batch `[B, D]` from a table `[N, D]`: `(x - mean) / std`."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self._shift, self._scale = normalisation(mean, std, 1.0)

    def to(self, device: torch.device) -> "FlatBatch":
        """Move the constants to `device`."""
        self._shift, self._scale = self._shift.to(device), self._scale.to(device)
        return self

    def collate(self, raw: Tensor) -> Tensor:
        """Return the raw rows."""
        return raw

    def __call__(self, store: Tensor, plan: Plan) -> Tensor:
        """Return the batch of the positions in `plan`."""
        return store.index_select(0, plan.order).sub_(self._shift).mul_(self._scale)
