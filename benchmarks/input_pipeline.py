"""Images per second of our loader, torchvision's DataLoader and kornia, and the memory that the set takes.

    OMP_NUM_THREADS=2 python benchmarks/input_pipeline.py

All make batches of normalised float32 images from the same 50,000 uint8 images of CIFAR-10's shape, with an independent
crop (padding 4) and flip for each image. In each round the variants run one after the other, and each rate is divided
by that of the best torchvision DataLoader of the round. Memory is measured in a separate process.
"""

import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import pytorch_lightning
import torch
from jsonargparse import auto_cli
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

from datamodules.image import ImageDataModule

SHAPE = (3, 32, 32)
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
BASELINE = "torchvision, {} workers"


class RandomImages(ImageDataModule):
    """Noise of CIFAR-10's shape."""

    num_classes, image_shape, mean, std = 10, SHAPE, MEAN, STD

    def __init__(self, count: int, **options: Any) -> None:
        super().__init__(val_size=0, crop_padding=4, flip="random", **options)
        self.count, self.classes = count, [str(i) for i in range(10)]

    def read(self, part: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """Return the same noise as the training and the test set."""
        images = torch.empty(self.count, *SHAPE, dtype=torch.uint8)
        images.random_(generator=torch.Generator().manual_seed(0))
        return images, torch.arange(self.count) % 10


class OneByOne(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's CIFAR10 gives them: from the array to PIL, through the transforms."""

    def __init__(self, images: np.ndarray, transform: Callable[[Image.Image], Tensor]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), index % 10


def per_sample() -> Callable[[Image.Image], Tensor]:
    return transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def per_sample_v2() -> Callable[[Image.Image], Tensor]:
    return v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )


def kornia_batches(images: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Yield batches of a resident tensor, augmented by kornia, independently for each image."""
    import kornia.augmentation as K

    augment = nn.Sequential(
        K.RandomCrop((32, 32), padding=4),
        K.RandomHorizontalFlip(),
        K.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
    )
    while True:
        for indices in torch.randperm(len(images)).split(batch_size):
            yield augment(images[indices].float() / 255)


def forever(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def variants(count: int, batch_size: int) -> tuple[dict[str, tuple[Iterator[Any], int]], list[str]]:
    """Return an endless iterator and the batches per round of each variant, and notes on missing variants."""
    data = RandomImages(count, batch_size=batch_size, seed=0)
    data.setup("fit")
    images, _ = data.read("train")
    array = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
    compiled = RandomImages(count, batch_size=batch_size, seed=0, compile=True)
    compiled.setup("fit")

    def stream(transform: Callable[[Image.Image], Tensor], workers: int) -> tuple[Iterator[Any], int]:
        dataset = OneByOne(array, transform)
        loader = DataLoader(dataset, batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
        return forever(loader), 12

    result = {
        "ours, resident": (forever(data.train_dataloader()), 100),
        "ours, resident, compile": (forever(compiled.train_dataloader()), 100),
        BASELINE.format(0): stream(per_sample(), 0),
        BASELINE.format(2): stream(per_sample(), 2),
        "torchvision v2, 0 workers": stream(per_sample_v2(), 0),
    }
    notes = []
    try:
        import kornia  # noqa: F401

        result["kornia, batch by batch"] = (kornia_batches(images, batch_size), 12)
    except ImportError:
        notes.append("kornia is not installed (pip install -e .[bench]): its row is missing")
    return result, notes


def rate(batches: Iterator[Any], count: int, batch_size: int) -> float:
    """Return images per second over `count` batches, after emptying the queues that workers filled meanwhile."""
    for _ in range(6):
        next(batches)
    began = time.perf_counter()
    for _ in range(count):
        next(batches)
    return count * batch_size / (time.perf_counter() - began)


def anonymous_bytes() -> int:
    """Return the process's memory without mapped files (Linux)."""
    gc.collect()
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))


def measure_memory(count: int) -> float:
    """Return the memory that a loader adds to the process, in units of the images' bytes."""
    torch.zeros(4_000_000).add(1)  # memory that the allocator and the threads keep
    base = anonymous_bytes()
    data = RandomImages(count)
    data.setup("fit")
    for epoch in range(2):
        for batch, _ in zip(data.train_dataloader(), range(20 + epoch), strict=False):
            del batch
    return (anonymous_bytes() - base) / (count * 3 * 32 * 32)


def run(rounds: int = 9, images: int = 50_000, batch_size: int = 128, only_memory: bool = False) -> None:
    """Measure and print one table.

    Args:
        rounds: Number of rounds.
        images: Number of images.
        batch_size: Images per batch.
        only_memory: Print only the memory factor; used by the process that measures it.
    """
    if only_memory:
        print(measure_memory(images))
        return
    command = [sys.executable, __file__, "--only_memory=true", f"--images={images}"]
    memory = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    peers, notes = variants(images, batch_size)
    rates: dict[str, list[float]] = {name: [] for name in peers}
    for name, (batches, count) in peers.items():
        rate(batches, min(count, 20), batch_size)  # start workers, compile
        rates[name].clear()
    for _ in range(rounds):
        for name, (batches, count) in peers.items():
            rates[name].append(rate(batches, count, batch_size))
            if name == BASELINE.format(2):
                time.sleep(1)  # lets its workers fill their queues

    best = max((BASELINE.format(0), BASELINE.format(2)), key=lambda name: np.median(rates[name]))
    title = f"Input: crop, flip, normalise; batch {batch_size}, {torch.get_num_threads()} threads; 1 = {best}"
    table = Table(title=title)
    for column in ("variant", "images/s", "ratio", "quartiles"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for name, values in rates.items():
        low, middle, high = np.quantile(np.array(values) / np.array(rates[best]), [0.25, 0.5, 0.75])
        table.add_row(name, f"{np.median(values):,.0f}", f"{middle:.2f}", f"{low:.2f} .. {high:.2f}")
    console = Console()
    console.print(table)
    versions = f"torch {torch.__version__}, Lightning {pytorch_lightning.__version__}"
    console.print(f"{rounds} rounds; memory over the process's base: {memory:.2f} of the images' bytes; {versions}")
    for note in notes:
        console.print(note)


def main(args: list[str] | None = None) -> None:
    auto_cli(run, args=args)


if __name__ == "__main__":
    main()
