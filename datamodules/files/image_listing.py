"""The images below a folder of class folders."""

import functools
import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .folders import LeftOut, is_hidden, leads_up, walk
from .messages import say, shown

NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
"""Formats that Pillow only identifies, or hands to another program."""


@dataclass(frozen=True)
class Listing:
    """The images below a folder of class folders."""

    root: Path
    files: list[str]  # paths relative to the folder
    labels: NDArray[np.int64]  # class of each file
    checksum: str  # of the paths, sizes and times of the files


def class_names(root: Path, left_out: LeftOut | None = None) -> list[str]:
    """Return the names of the class folders in `root`, sorted; what else is there goes to `left_out`."""
    if not root.is_dir():
        problem = f"{shown(root)} is not a folder" if root.exists() else f"there is no folder {shown(root)}"
        raise FileNotFoundError(
            f"{problem}; images are expected in train/<class>/ and test/<class>/ below --data.data_dir"
        )
    names, left_out = [], LeftOut() if left_out is None else left_out
    with os.scandir(root) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                left_out.add("hidden", entry.path)
            elif not os.path.isdir(entry.path):
                left_out.add("in no class folder", entry.path)
            elif entry.is_symlink() and leads_up(entry.path):
                left_out.add("a link to a folder above it", entry.path)
            else:
                names.append(entry.name)
    if not names:
        found = f" ({left_out})" if left_out.paths else ""
        raise ValueError(
            f"{shown(root)} has no class folder{found}; put the images of each class into a folder of its own"
        )
    return sorted(names)


def similar_names(names: list[str]) -> list[str]:
    """Return the names that differ from another one by case only.

    >>> similar_names(["Cat", "cat", "dog"])
    ['Cat', 'cat']
    """
    counts = Counter(name.casefold() for name in names)
    return [name for name in names if counts[name.casefold()] > 1]


def list_images(root: Path, classes: list[str]) -> Listing:
    """List the images of every class, recursively and sorted, and say what is left out and why."""
    files: list[str] = []
    labels: list[int] = []
    empty: list[str] = []
    left_out = LeftOut()
    digest = hashlib.blake2b(digest_size=16)
    start = len(os.path.join(root, ""))
    positions = {name: k for k, name in enumerate(classes)}
    for name in class_names(root, left_out):
        if name not in positions:
            raise ValueError(f"class {name!r} of {shown(root)} is not among the classes of the training set; remove it")
        images = _images(root / name, left_out)
        empty += [] if images else [name]
        for path, size, time in images:
            relative = path[start:]
            digest.update(f"{relative}\0{size}\0{time}\n".encode(errors="surrogateescape"))
            files.append(relative)
            labels.append(positions[name])
    if empty:
        raise _no_image(root, empty, left_out)
    kinds = f"{len(set(labels))} class{'es' if len(set(labels)) > 1 else ''}"
    say(f"{shown(root)}: used {len(files):,} images of {kinds}{', ' if left_out.paths else ''}{left_out}")
    return Listing(root, files, np.array(labels, dtype=np.int64), digest.hexdigest())


def joined(root: Path, *listings: Listing) -> Listing:
    """Return listings of folders in `root`, one after the other, as one."""
    files = [os.path.join(one.root.name, file) for one in listings for file in one.files]
    labels = np.concatenate([one.labels for one in listings])
    return Listing(root, files, labels, " ".join(one.checksum for one in listings))


def first_image(root: Path, classes: list[str]) -> Path:
    """Return the first image that `list_images` lists, without listing the other classes."""
    left_out = LeftOut()
    images = _images(root / classes[0], left_out)
    if not images:
        raise _no_image(root, classes[:1], left_out)
    return Path(images[0][0])


def unlabelled_images(root: Path) -> list[str]:
    """Return the images below a folder, at any depth, as paths relative to it, sorted; say what is left out and why.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has no image.
    """
    if not root.is_dir():
        problem = f"{shown(root)} is not a folder" if root.exists() else f"there is no folder {shown(root)}"
        raise FileNotFoundError(f"{problem}; name a folder with images")
    left_out = LeftOut()
    start = len(os.path.join(root, ""))
    files = [path[start:] for path, _, _ in _images(root, left_out)]
    if not files:
        found = f" ({left_out})" if left_out.paths else ""
        raise ValueError(f"{shown(root)} has no image{found}; name a folder with images")
    say(f"{shown(root)}: {len(files):,} image{'s' * (len(files) > 1)}{', ' * bool(left_out.paths)}{left_out}")
    return files


def _images(folder: Path, left_out: LeftOut) -> list[tuple[str, int, int]]:
    known = _extensions()
    return walk(str(folder), lambda name: os.path.splitext(name)[1].lower() in known, "an image", left_out)


def _no_image(root: Path, names: list[str], left_out: LeftOut) -> ValueError:
    which = ", ".join(shown(name) for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    folder = f"class folder {shown(root / names[0])} has" if len(names) == 1 else f"class folders {which} have"
    where = "" if len(names) == 1 else f" in {shown(root)}"
    found = f" ({left_out})" if left_out.paths else " (any format of Pillow)"
    return ValueError(f"{folder} no image{where}{found}; add some or remove the folder")


@functools.cache
def _extensions() -> frozenset[str]:
    """Return the endings of the formats that Pillow decodes, with those that other packages have registered."""
    endings = Image.registered_extensions()  # which imports all formats
    return frozenset(ending for ending, kind in endings.items() if kind in Image.OPEN and kind not in NOT_DECODED)
