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
from .files.image_files import FolderImages, Listing, class_names, list_images
from .image import ImageDataModule
from .pipeline.batch import ImageStore
from .pipeline.scaling import mean_and_std


class ImageFolderDataModule(ImageDataModule):
    """Images in `data_dir/train/<class>/` and `data_dir/test/<class>/`, converted to RGB.

    All images are decoded once, in parallel threads, and kept as one array of bytes in `cache_dir`, beside checksums of
    the file list (paths, sizes, times) and of the array itself; the next start reads the array. It is decoded anew when
    a file was added, changed or removed, or when the array is damaged. With `resident=False` the images are decoded for
    each batch and never held; only the sums for mean and standard deviation are kept in `cache_dir`.

    Args:
        image_size: scale the shorter side to this length and keep the square in the middle; None needs images of one
            size.
        val_size: validation examples, a count or a fraction of `train/`; 0 or None is no validation part.
        cache_dir: folder of the decoded images; None is `data_dir/.decoded`, and a warning if that can not be written.
        **options: see `ImageDataModule` and `SplitDataModule`.

    Raises:
        FileNotFoundError: if a folder is missing.
        OSError: if an image can not be read, or `cache_dir` can not be written.
        ValueError: if an option is out of its range, a class has no image, `test/` has a class that `train/` has not,
            or images differ in size.
    """

    def __init__(
        self,
        *,
        image_size: int | None = None,
        val_size: int | float | None = 0.1,
        cache_dir: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(val_size=val_size, **options)
        self.image_size = None if image_size is None else at_least("image_size", image_size, 1)
        self.cache_dir = cache_dir
        self.classes = class_names(Path(self.data_dir) / "train")
        self.num_classes = len(self.classes)
        self._listings: dict[str, Listing] = {}
        self._sums: NDArray[np.int64] | None = None
        side = self.image_size
        self.image_shape = self._first_shape() if side is None else (3, side, side)

    def prepare_data(self) -> None:
        """Decode what is not in the cache, once per machine."""
        self._split()
        self._set("train")
        self._set("test")

    def _load(self, part: Literal["train", "test"]) -> Examples:
        images = self._images(part)
        labels = torch.from_numpy(images.listing.labels)
        if not self.resident:
            return Examples(labels, dataset=images)
        store = ImageStore(len(images), self.image_shape, self.augmentation.crop_padding)
        pixels = store.images.numpy()
        cache = self._cache(part)
        if not cache.read("pixels", pixels):
            sums = images.sums(pixels)
            cache.write(pixels=pixels, sums=sums)
            if part == "train":
                self._sums = sums
        return Examples(labels, store=store)

    def _labels(self) -> Tensor:
        return torch.from_numpy(self._listing("train").labels)

    def _statistics(self, train: Tensor) -> tuple[Sequence[float], Sequence[float]]:
        if self.resident:
            self._set("train")  # decodes once for pixels and sums
        if self._sums is None:
            images, cache = self._images("train"), self._cache("train")
            self._sums = np.empty((len(images), 3, 2), dtype=np.int64)
            if not cache.read("sums", self._sums):
                self._sums = images.sums(None)
                cache.write(sums=self._sums)
        return mean_and_std(self._sums[train.numpy()], self.image_shape[1] * self.image_shape[2])

    def _listing(self, part: Literal["train", "test"]) -> Listing:
        if part not in self._listings:
            self._listings[part] = list_images(Path(self.data_dir) / part, self.classes)
        return self._listings[part]

    def _images(self, part: Literal["train", "test"]) -> FolderImages:
        return FolderImages(self._listing(part), self.image_size, self.image_shape)

    def _first_shape(self) -> tuple[int, ...]:
        return FolderImages(self._listing("train"), None, ()).read(0).shape

    def _cache(self, part: Literal["train", "test"]) -> ArrayCache:
        folder = Path(self.data_dir) / ".decoded" if self.cache_dir is None else Path(self.cache_dir)
        name = f"{part}-{self.image_size or 'original'}"
        return ArrayCache(folder, name, self._listing(part).checksum, required=self.cache_dir is not None)
