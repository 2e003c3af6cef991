"""Images per second out of a folder of JPEG files that is not held in memory: ours, and torchvision's ImageFolder.

    python benchmarks/input_folder.py --workers 2

All make batches of normalised images of 224 x 224: the shorter side scaled, the square in the middle, a random flip.
Each round reads an epoch (the first one, in which workers start, does not count), and each rate is divided by
torchvision's of the round.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from jsonargparse import auto_cli
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

sys.path.insert(0, str(Path(__file__).parent.parent))  # before this folder, whose files have the packages' names

from benchmarks._record import load_before, write_record
from datamodules import ImageFolderDataModule

SIDE, MEAN, STD = 224, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
BASELINE = "torchvision, ImageFolder"


class Folder(ImageFolderDataModule):
    """The folder with known statistics, so that the measurement begins at once."""

    mean, std = MEAN, STD


def write(folder: Path, count: int, width: int, height: int) -> None:
    """Write smooth pictures with noise, which take as long to decode as photographs."""
    for part, number in (("train", count), ("test", 2)):
        for k in range(number):
            stream = np.random.default_rng(k)
            coarse = Image.fromarray(stream.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            picture = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float32)
            noisy = (picture + stream.normal(0, 6, picture.shape)).clip(0, 255).astype(np.uint8)
            path = folder / part / str(k % 2) / f"{k}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noisy).save(path, quality=90)


def torchvision_loader(folder: Path, workers: int, batch_size: int) -> Any:
    transform = transforms.Compose(
        [
            transforms.Resize(SIDE),
            transforms.CenterCrop(SIDE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    images = ImageFolder(str(folder / "train"), transform)
    return DataLoader(images, batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


def our_loader(folder: Path, workers: int, batch_size: int, reduced: bool) -> Any:
    data = Folder(
        data_dir=str(folder), image_size=SIDE, resident=False, num_workers=workers, batch_size=batch_size, val_size=0,
        flip="random", reduced_decoding=reduced,
    )  # fmt: skip
    data.setup("fit")
    return data.train_dataloader()


def run(
    rounds: int = 5,
    images: int = 96,
    width: int = 1600,
    height: int = 1200,
    workers: int = 2,
    results: Path | None = None,
) -> None:
    """Measure and print one table.

    Args:
        rounds: Number of epochs.
        images: Number of files.
        width: Their width.
        height: Their height.
        workers: Worker processes.
        results: JSON file to write the table to, such as results/NAME.json.
    """
    notes = [load_before()]
    with tempfile.TemporaryDirectory() as name:
        folder, batch_size = Path(name), 16
        write(folder, images, width, height)
        loaders = {
            BASELINE: torchvision_loader(folder, workers, batch_size),
            "ours": our_loader(folder, workers, batch_size, False),
            "ours, reduced_decoding": our_loader(folder, workers, batch_size, True),
        }
        rates: dict[str, list[float]] = {name: [] for name in loaders}
        for round_ in range(rounds + 1):
            for name, loader in loaders.items():
                began = time.perf_counter()
                count = sum(len(labels) for _, labels in loader)
                if round_:  # after one that starts the workers
                    rates[name].append(count / (time.perf_counter() - began))
    table = Table(title=f"{images} JPEG files of {width} x {height}, {workers} workers; 1 = {BASELINE}")
    for column in ("variant", "images/s", "ratio", "quartiles"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for name, values in rates.items():
        low, middle, high = np.quantile(np.array(values) / np.array(rates[BASELINE]), [0.25, 0.5, 0.75])
        table.add_row(name, f"{np.median(values):,.0f}", f"{middle:.2f}", f"{low:.2f} .. {high:.2f}")
    notes.append(f"{rounds} rounds; torch {torch.__version__}, torchvision {torchvision.__version__}")
    Console().print(table)
    for note in notes:
        Console().print(note)
    write_record(results, [table], notes)


def main(args: list[str] | None = None) -> None:
    auto_cli(run, args=args)


if __name__ == "__main__":
    main()
