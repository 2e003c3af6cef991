"""Images per second of our loader, torchvision's DataLoader and kornia, and the memory that the set takes.

    OMP_NUM_THREADS=2 python benchmarks/input_pipeline.py

All make batches of normalised float32 images from the same 50,000 uint8 images of CIFAR-10's shape, with an independent
crop (padding 4) and flip for each image. In each round the variants run one after the other, and each rate is divided
by that of the best torchvision DataLoader of the round. Memory is measured in a separate process.

A second table has each augmentation by itself: whole epochs of ours beside torchvision's v2 transforms image by image,
both in one process, one after the other in each round. `--tables '[augmentations]'` measures it alone.
"""

import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning
import torch
import torchvision
from jsonargparse import auto_cli
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).parent.parent))  # before this folder, whose files have the packages' names

from benchmarks._augmentations import (
    MEAN,
    STD,
    OneByOne,
    RandomImages,
    augmentations,
    forever,
    ours,
    per_sample_v2,
    torchvisions,
)
from benchmarks._record import load_before, write_record

CROP: dict[str, Any] = {"crop_padding": 4, "flip": "random"}

BASELINE = "torchvision, {} workers"


def per_sample() -> Callable[[Image.Image], Tensor]:
    return transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
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


def variants(count: int, batch_size: int) -> tuple[dict[str, tuple[Iterator[Any], int]], list[str]]:
    """Return an endless iterator and the batches per round of each variant, and notes on missing variants."""
    data = RandomImages(count, batch_size=batch_size, seed=0, **CROP)
    data.setup("fit")
    images, _ = data.read("train")
    array = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
    compiled = RandomImages(count, batch_size=batch_size, seed=0, compile=True, **CROP)
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
        "torchvision v2, 0 workers": stream(per_sample_v2(v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()), 0),
    }
    notes = []
    try:
        import kornia  # noqa: F401

        result["kornia, batch by batch"] = (kornia_batches(images, batch_size), 12)
    except ImportError:
        notes.append("kornia is not installed (pip install -e .[bench]): its row is missing")
    return result, notes


def rate(batches: Iterator[Any], count: int, batch_size: int, skip: int = 6) -> float:
    """Return images per second over `count` batches, after emptying the queues that workers filled meanwhile."""
    for _ in range(skip):
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
    data = RandomImages(count, **CROP)
    data.setup("fit")
    for epoch in range(2):
        for batch, _ in zip(data.train_dataloader(), range(20 + epoch), strict=False):
            del batch
    return (anonymous_bytes() - base) / (count * 3 * 32 * 32)


def loaders_table(rounds: int, images: int, batch_size: int) -> tuple[Table, list[str]]:
    """Measure crop and flip, and return the table and the notes beside it."""
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
        table.add_row(name, f"{np.median(values):,.0f}", *ratio(values, rates[best]))
    return table, [f"memory over the process's base: {memory:.2f} of the images' bytes", *notes]


def augmentations_table(rounds: int, batches: int, batch_size: int) -> Table:
    """Measure each augmentation, an epoch of ours and two batches of torchvision's a round, and return the table."""
    made = {}
    for name, (options, transform, mix) in augmentations().items():
        made[name] = (
            (forever(ours(options, batches * batch_size, batch_size)), batches),
            (forever(torchvisions(transform, mix, batches * batch_size, batch_size)), 2),
        )
    rates: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in made}
    for round_ in range(rounds + 1):
        for name, pair in made.items():
            for (stream, count), values in zip(pair, rates[name], strict=True):
                found = rate(stream, count, batch_size, skip=0)
                if round_:  # after one that fills caches
                    values.append(found)
    threads = torch.get_num_threads()
    table = Table(title=f"Augmentations by themselves, normalised; batch {batch_size}, {threads} threads")
    for column in ("augmentation", "ours, images/s", "torchvision v2, images/s", "ratio", "quartiles"):
        table.add_column(column, justify="left" if column == "augmentation" else "right")
    for name, (own, other) in rates.items():
        table.add_row(name, f"{np.median(own):,.0f}", f"{np.median(other):,.0f}", *ratio(own, other))
    return table


def ratio(values: Sequence[float], base: Sequence[float]) -> tuple[str, str]:
    """Return the median of the ratios within the rounds, and their quartiles."""
    low, middle, high = np.quantile(np.array(values) / np.array(base), [0.25, 0.5, 0.75])
    digits = 2 if middle < 10 else 0
    return f"{middle:.{digits}f}", f"{low:.{digits}f} .. {high:.{digits}f}"


def run(
    rounds: int = 9,
    images: int = 50_000,
    batch_size: int = 128,
    batches: int = 20,
    tables: list[Literal["loaders", "augmentations"]] = ["loaders", "augmentations"],  # noqa: B006
    results: Path | None = None,
    only_memory: bool = False,
) -> None:
    """Measure and print the tables.

    Args:
        rounds: Number of rounds.
        images: Number of images of the first table.
        batch_size: Images per batch.
        batches: Batches of an epoch of the second table, at least 2.
        tables: Which tables.
        results: JSON file to write the tables to, such as results/NAME.json.
        only_memory: Print only the memory factor; used by the process that measures it.
    """
    if only_memory:
        print(measure_memory(images))
        return
    made, notes = [], [load_before()]
    if "loaders" in tables:
        table, beside = loaders_table(rounds, images, batch_size)
        made.append(table)
        notes += beside
    if "augmentations" in tables:
        made.append(augmentations_table(rounds, batches, batch_size))
    console = Console(width=120)
    for table in made:
        console.print(table)
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    notes.append(f"{rounds} rounds; {versions}, Lightning {pytorch_lightning.__version__}")
    for note in notes:
        console.print(note)
    write_record(results, made, notes)


def main(args: list[str] | None = None) -> None:
    auto_cli(run, args=args)


if __name__ == "__main__":
    main()
