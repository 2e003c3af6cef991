"""Images of a folder, decoded in parallel threads."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..pipeline.scaling import Pixels, sums_of
from .decoding import Decoded, Decoding, decode, of_any_size
from .image_listing import Listing
from .messages import progress, say, shown

CHUNK = 64  # images per task of a thread


class FolderImages(Dataset[Tensor]):
    """The images of a listing, decoded on access; every one must have the shape `image_shape`."""

    def __init__(self, listing: Listing, how: Decoding, image_shape: tuple[int, ...]) -> None:
        self.listing, self.how, self.image_shape = listing, how, image_shape

    def __len__(self) -> int:
        return len(self.listing.files)

    def __getitem__(self, index: int) -> Tensor:
        with of_any_size():
            return torch.from_numpy(self.read(index).pixels)

    def read(self, index: int) -> Decoded:
        """Return one image, uint8 `[C, H, W]`."""
        path = self.listing.root / self.listing.files[index]
        image = decode(path, self.how)
        shape = image.pixels.shape
        if shape != self.image_shape:
            raise ValueError(
                f"image {shown(path)} has {shape[2]}x{shape[1]} pixels, another has "
                f"{self.image_shape[2]}x{self.image_shape[1]}; make them equal with --data.image_size"
            )
        return image

    def sums(self, pixels: Pixels | None) -> NDArray[np.int64]:
        """Decode all images, into `pixels` `[N, C, H, W]` if given, and return `sums_of` each image."""
        sums = np.empty((len(self), self.image_shape[0], 2), dtype=np.int64)
        series: list[int] = []

        def work(start: int) -> int:
            end = min(start + CHUNK, len(self))
            for index in range(start, end):
                image = self.read(index)
                sums[index] = sums_of(image.pixels)
                if image.is_first:
                    series.append(index)
                if pixels is not None:
                    pixels[index] = image.pixels
            return end - start

        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        with (
            of_any_size(),
            ThreadPoolExecutor(threads) as pool,
            progress(f"decoding {shown(self.listing.root)}", len(self)) as advance,
        ):
            try:
                for count in pool.map(work, range(0, len(self), CHUNK)):
                    advance(count)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        if series:
            example = shown(self.listing.files[min(series)])
            have = "file has" if len(series) == 1 else "files have"
            say(f"{shown(self.listing.root)}: {len(series)} {have} several frames, the first is used ({example})")
        return sums
