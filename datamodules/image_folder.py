"""Any folder of images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._checks import at_least
from .base import Examples
from .files.array_cache import ArrayCache
from .files.image_files import FolderImages, Listing, class_names, first_shape, list_images
from .image import ImageDataModule
from .pipeline.batch import ImageStore
from .pipeline.scaling import mean_and_std


class ImageFolderDataModule(ImageDataModule):
    """Images in `data_dir/train/<class>/` and `data_dir/test/<class>/`, converted to RGB.

    All images are decoded once, in parallel threads, and kept as one array of bytes in `cache_dir`, with checksums of
    the file list (paths, sizes, times) and of the array itself. The next start reads the array; images are decoded
    again when a file was added, changed or removed, or when the array is damaged. With `resident=False` the images are
    decoded for each batch and never kept; `cache_dir` then holds only the sums for mean and standard deviation.

    Args:
        image_size: Scale the shorter side to this length and keep the square in the middle. None: all images must have
            the same size.
        cache_dir: Folder of the decoded images. None: `data_dir/.decoded`, with a warning if it cannot be written.
        **options: See `ImageDataModule` and `SplitDataModule`.

    Raises:
        FileNotFoundError: If a folder is missing.
        OSError: If an image cannot be read, or `cache_dir` cannot be written.
        ValueError: If an option is out of range, a class has no image, `test/` has a class missing from `train/`, or
            images differ in size.
    """

    def __init__(self, *, image_size: int | None = None, cache_dir: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.image_size = None if image_size is None else at_least("image_size", image_size, 1)
        self.cache_dir = cache_dir
        train = Path(self.data_dir) / "train"
        self.classes = class_names(train)
        self.num_classes = len(self.classes)
        self._listings: dict[str, Listing] = {}
        self._sums: NDArray[np.int64] | None = None
        side = self.image_size
        self.image_shape = (3, side, side) if side else first_shape(train, self.classes)

    def prepare_data(self) -> None:
        """Decode what is not in the cache, once per machine."""
        self._split()
        self._set("train")
        self._set("test")

    def read(self, part: Literal["train", "test"]) -> tuple[FolderImages, Tensor]:
        """Return the images of `train/` or `test/` as a dataset that decodes them, and their labels."""
        listing = self._listing(part)
        return FolderImages(listing, self.image_size, self.image_shape), torch.from_numpy(listing.labels)

    def labels(self) -> Tensor:
        """Return the labels of `train/`, which the folder names give."""
        return torch.from_numpy(self._listing("train").labels)

    def load(self, part: Literal["train", "test"]) -> Examples:
        """Return the images in an `ImageStore`, decoded or from the cache; if not `resident`, as a dataset."""
        images, labels = self.read(part)
        if not self.resident:
            return Examples(images, labels)
        # Decoded straight into the store, so that the set is never in memory twice.
        store = ImageStore(len(images), self.image_shape, self.augmentation.crop_padding)
        pixels = store.images.numpy()
        cache = self._cache(part)
        if not cache.read("pixels", pixels):
            sums = images.sums(pixels)
            cache.write(pixels=pixels, sums=sums)
            if part == "train":
                self._sums = sums
        return Examples(store, labels)

    def statistics(self, train: Tensor) -> tuple[Sequence[float], Sequence[float]]:
        """Return mean and standard deviation per channel, from the sums of each image, which the cache holds too."""
        if self.resident:
            self._set("train")  # decodes once for pixels and sums
        if self._sums is None:
            (images, _), cache = self.read("train"), self._cache("train")
            self._sums = np.empty((len(images), 3, 2), dtype=np.int64)
            if not cache.read("sums", self._sums):
                self._sums = images.sums(None)
                cache.write(sums=self._sums)
        return mean_and_std(self._sums[train.numpy()], self.image_shape[1] * self.image_shape[2])

    def _listing(self, part: Literal["train", "test"]) -> Listing:
        if part not in self._listings:
            self._listings[part] = list_images(Path(self.data_dir) / part, self.classes)
        return self._listings[part]

    def _cache(self, part: Literal["train", "test"]) -> ArrayCache:
        folder = Path(self.data_dir) / ".decoded" if self.cache_dir is None else Path(self.cache_dir)
        name = f"{part}-{self.image_size or 'original'}"
        return ArrayCache(folder, name, self._listing(part).checksum, required=self.cache_dir is not None)
