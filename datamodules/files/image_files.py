"""Images of a folder, listed and decoded in parallel threads."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS

from ..pipeline.scaling import Pixels, sums_of

CHUNK = 64  # images per task of a thread


@dataclass(frozen=True)
class Listing:
    """The images below a folder of class folders."""

    root: Path
    files: list[str]  # paths relative to the folder
    labels: NDArray[np.int64]  # class of each file
    checksum: str  # of the paths, sizes and times of the files


def class_names(root: Path) -> list[str]:
    """Return the names of the class folders in `root`, sorted."""
    if not root.is_dir():
        problem = f"{root} is not a folder" if root.exists() else f"there is no folder {root}"
        raise FileNotFoundError(
            f"{problem}; images are expected in train/<class>/ and test/<class>/ below --data.data_dir"
        )
    names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise ValueError(f"{root} has no class folder; put the images of each class into a folder of its own")
    return names


def list_images(root: Path, classes: list[str]) -> Listing:
    """List the images of every class, recursively and sorted; other files are ignored."""
    files: list[str] = []
    labels: list[int] = []
    digest = hashlib.blake2b(digest_size=16)
    for name in class_names(root):
        if name not in classes:
            raise ValueError(f"class {name!r} of {root} is not among the classes of the training set; remove it")
        for path, size, time in _class_images(root / name):
            relative = os.path.relpath(path, root)
            digest.update(f"{relative}\0{size}\0{time}\n".encode(errors="surrogateescape"))
            files.append(relative)
            labels.append(classes.index(name))
    return Listing(root, files, np.array(labels, dtype=np.int64), digest.hexdigest())


def first_shape(root: Path, classes: list[str]) -> tuple[int, ...]:
    """Return the shape [3, H, W] of the first image that `list_images` lists, without listing the others."""
    return decode(Path(_class_images(root / classes[0])[0][0]), None).shape


def _class_images(folder: Path) -> list[tuple[str, int, int]]:
    """Return path, size and time of every image below a class folder, sorted."""
    images = sorted(_walk(folder))
    if not images:
        kinds = " ".join(IMG_EXTENSIONS)
        raise ValueError(f"class folder {folder} has no image ({kinds}); add some or remove the folder")
    return images


def _walk(folder: Path) -> Iterator[tuple[str, int, int]]:
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from _walk(Path(entry.path))
        elif entry.name.lower().endswith(IMG_EXTENSIONS) and not entry.name.startswith("."):
            status = entry.stat()
            yield entry.path, status.st_size, status.st_mtime_ns


def decode(path: Path, image_size: int | None) -> Pixels:
    """Read an image as RGB, uint8 `[3, H, W]`; with `image_size` as the middle square of the scaled image."""
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).replace(f" {str(path)!r}", "")
        raise OSError(f"image {path} cannot be read ({reason}); replace it or remove it") from error
    if image_size is not None and image.size != (image_size, image_size):
        factor = image_size / min(image.size)
        width, height = (max(image_size, round(side * factor)) for side in image.size)
        left, top = (width - image_size) // 2, (height - image_size) // 2
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        image = image.crop((left, top, left + image_size, top + image_size))
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


class FolderImages(Dataset[Tensor]):
    """The images of a listing, decoded on access; every one must have the shape `image_shape`."""

    def __init__(self, listing: Listing, image_size: int | None, image_shape: tuple[int, ...]) -> None:
        self.listing, self.image_size, self.image_shape = listing, image_size, image_shape

    def __len__(self) -> int:
        return len(self.listing.files)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.read(index))

    def read(self, index: int) -> Pixels:
        """Return one image, uint8 `[C, H, W]`."""
        path = self.listing.root / self.listing.files[index]
        pixels = decode(path, self.image_size)
        if pixels.shape != self.image_shape:
            raise ValueError(
                f"image {path} has {pixels.shape[2]}x{pixels.shape[1]} pixels, another has "
                f"{self.image_shape[2]}x{self.image_shape[1]}; make them equal with --data.image_size"
            )
        return pixels

    def sums(self, pixels: Pixels | None) -> NDArray[np.int64]:
        """Decode all images, into `pixels` `[N, C, H, W]` if given, and return `sums_of` each image."""
        sums = np.empty((len(self), self.image_shape[0], 2), dtype=np.int64)

        def work(start: int) -> None:
            for index in range(start, min(start + CHUNK, len(self))):
                image = self.read(index)
                sums[index] = sums_of(image)
                if pixels is not None:
                    pixels[index] = image

        with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None) as pool:
            try:
                list(pool.map(work, range(0, len(self), CHUNK)))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return sums
