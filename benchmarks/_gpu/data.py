"""Images for the measurements: of a folder, or random ones of CIFAR-10's shape."""

import hashlib
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules import ImageFolderDataModule
from datamodules.image import ImageDataModule

from .rows import Bench

Batch = tuple[Tensor, Tensor]
COUNT = 50_000


class RandomImages(ImageDataModule):
    """Noise of CIFAR-10's shape, in ten classes."""

    num_classes, image_shape = 10, (3, 32, 32)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

    def __init__(self, count: int = COUNT, **options: Any) -> None:
        super().__init__(val_size=0, **options)
        self.count, self.classes = count, [str(label) for label in range(10)]

    def read(self, part: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """Return the same noise as the training and the test set."""
        images = torch.empty(self.count, *self.image_shape, dtype=torch.uint8)
        return images.random_(generator=torch.Generator().manual_seed(0)), torch.arange(self.count) % 10


def images_module(bench: Bench, batch_size: int, **options: Any) -> ImageDataModule:
    """Return the data module, with crop and flip, that keeps its set on the device.

    A folder without `train/` is taken as one of class folders. Decoded images are kept beside them, or in the
    system's temporary folder if nothing can be written there.
    """
    options = {"batch_size": batch_size, "crop_padding": 4, "flip": "random", "device": bench.device, **options}
    options |= {"seed": 0, "drop_last": True}
    if bench.data is None:
        return RandomImages(image_count(bench), **options)
    folder = bench.data.resolve()
    cache = folder / ".decoded" if os.access(folder, os.W_OK) else Path(tempfile.gettempdir()) / "decoded-images"
    if not (folder / "train").is_dir():
        above = Path(tempfile.gettempdir()) / f"images-of-{hashlib.md5(str(folder).encode()).hexdigest()[:12]}"
        above.mkdir(exist_ok=True)
        if not (above / "train").exists():
            (above / "train").symlink_to(folder, target_is_directory=True)
        folder = above
    return ImageFolderDataModule(data_dir=str(folder), cache_dir=str(cache), val_size=0, **options)


def loader(bench: Bench, batch_size: int, **options: Any) -> Any:
    """Return the training loader of the resident set."""
    module = images_module(bench, batch_size, **options)
    module.setup("fit")
    return module.train_dataloader()


def forever(batches: Any) -> Iterator[Batch]:
    """Yield the batches of one epoch after the other."""
    while True:
        yield from batches


def ready_batches(batches: Any, count: int = 8) -> list[Batch]:
    """Return batches that are ready on the device, in channels-last format, as a loop that does nothing else finds."""
    return [
        (images.contiguous(memory_format=torch.channels_last), labels)
        for images, labels in itertools.islice(forever(batches), count)
    ]


def image_count(bench: Bench) -> int:
    """Return the number of random images."""
    return 64 if bench.quick else COUNT
