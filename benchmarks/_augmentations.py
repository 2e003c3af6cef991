"""One epoch with each augmentation: ours by whole batches, torchvision's v2 transforms image by image."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torchvision.transforms import v2

from benchmarks._gpu.one_by_one import OneByOne
from datamodules.image import ImageDataModule

SHAPE = (3, 32, 32)
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
JITTER = (0.4, 0.4, 0.4, 0.1)


class RandomImages(ImageDataModule):
    """Noise of CIFAR-10's shape."""

    num_classes, image_shape, mean, std = 10, SHAPE, MEAN, STD

    def __init__(self, count: int, **options: Any) -> None:
        super().__init__(val_size=0, **options)
        self.count, self.classes = count, [str(i) for i in range(10)]

    def read(self, part: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """Return the same noise as the training and the test set."""
        images = torch.empty(self.count, *SHAPE, dtype=torch.uint8)
        images.random_(generator=torch.Generator().manual_seed(0))
        return images, torch.arange(self.count) % 10


def per_sample_v2(*before: Callable[..., Any], after: Sequence[Callable[..., Any]] = ()) -> Callable[..., Tensor]:
    """Return torchvision's transforms of an image: some of bytes, normalisation, some of floats."""
    made = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    composed: Callable[..., Tensor] = v2.Compose([*before, *made, *after])
    return composed


def augmentations() -> dict[str, tuple[dict[str, Any], Callable[..., Tensor], Any]]:
    """Return our options, torchvision's transforms of an image, and its transform of a batch, by name."""
    crop = {"crop_padding": 4, "flip": "random"}
    jitter = v2.ColorJitter(*JITTER)
    return {
        "none": ({}, per_sample_v2(), None),
        "crop, flip": (crop, per_sample_v2(v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()), None),
        "vertical_flip": ({"vertical_flip": 0.5}, per_sample_v2(v2.RandomVerticalFlip()), None),
        "random_resized_crop": ({"random_resized_crop": True}, per_sample_v2(v2.RandomResizedCrop(32)), None),
        "color_jitter": ({"color_jitter": list(JITTER)}, per_sample_v2(jitter), None),
        "random_erasing": ({"random_erasing": 0.5}, per_sample_v2(after=[v2.RandomErasing(0.5)]), None),
        "TrivialAugment": ({"augment": "TrivialAugment"}, per_sample_v2(v2.TrivialAugmentWide()), None),
        "RandAugment": ({"augment": "RandAugment"}, per_sample_v2(v2.RandAugment()), None),
        "mixup": ({"mixup": 0.2}, per_sample_v2(), v2.MixUp(alpha=0.2, num_classes=10)),
        "cutmix": ({"cutmix": 1.0}, per_sample_v2(), v2.CutMix(alpha=1.0, num_classes=10)),
    }


def ours(options: dict[str, Any], images: int, batch_size: int) -> Any:
    """Return our loader."""
    data = RandomImages(images, batch_size=batch_size, seed=0, **options)
    data.setup("fit")
    return data.train_dataloader()


def torchvisions(transform: Callable[..., Tensor], mix: Any, images: int, batch_size: int) -> Any:
    """Return torchvision's loader, in this process as ours is; mixing draws once for a batch."""
    array = np.random.default_rng(0).integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)

    def collate(batch: list[Any]) -> Any:
        return mix(*default_collate(batch))

    return DataLoader(OneByOne(array, transform), batch_size, shuffle=True, collate_fn=collate if mix else None)


def forever(loader: Any) -> Iterator[Any]:
    """Yield batches without end."""
    while True:
        yield from loader
