"""Base of the data modules for images."""

from typing import Any, Literal

from torch import Tensor

from .base import Examples, SplitDataModule
from .pipeline.augment import Augmentation, Flip
from .pipeline.batch import ImageBatch, ImageStore
from .pipeline.loader import InMemory


class ImageDataModule(SplitDataModule):
    """Base of the data modules for images; `SplitDataModule` documents the options that are not named here.

    Args:
        crop_padding: crop of the image's own size at a random place after padding with this many black pixels.
        flip: mirror left and right, `"none"`, `"random"` or `"alternating"` (each image the other way in each epoch).
        cutout: side of a square at a random place that is set to the mean; 0 for none.
        compile: normalise and cut out training batches by `torch.compile`d code, with the same bits.
        **options: see `SplitDataModule`.

    Raises:
        ValueError: if an option is out of its range.
    """

    def __init__(
        self, *, crop_padding: int = 0, flip: Flip = "none", cutout: int = 0, compile: bool = False, **options: Any
    ) -> None:
        super().__init__(**options)
        self.compile = compile
        self.augmentation: Augmentation = Augmentation(crop_padding, flip, cutout)

    def _read(self, part: Literal["train", "test"]) -> tuple[Tensor, Tensor] | None:
        """The set as uint8 `[N, C, H, W]` and int64 `[N]`; None for a test set that is split from the training set."""
        raise NotImplementedError  # every image set reads its own files

    def _load(self, part: Literal["train", "test"]) -> Examples | None:
        read = self._read(part)
        if read is None:
            return None
        images, labels = read
        if not self.resident:
            return Examples(labels, dataset=InMemory(images))
        store = ImageStore(len(images), self.image_shape, self.augmentation.crop_padding)
        store.images.copy_(images)
        return Examples(labels, store=store)

    def _batch_maker(self, training: bool) -> ImageBatch:
        assert self.mean is not None  # since the split is made
        assert self.std is not None
        if not training:
            return ImageBatch(self.image_shape, self.mean, self.std)
        compile_for = self.batch_size if self.compile else None
        return ImageBatch(self.image_shape, self.mean, self.std, self.augmentation, compile_for)
