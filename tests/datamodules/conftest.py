"""Small data sets in the layouts of the real ones, and every data module on them."""

import hashlib
import os
import pickle
import struct
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10

import datamodules

NAMES = ["digits", "mnist", "cifar10", "image_folder", "tabular"]
CIFAR_FILES = {"data_batch_1": 30, "data_batch_2": 20, "data_batch_3": 30, "data_batch_4": 20, "data_batch_5": 20}


class Python2Pickler(pickle._Pickler):
    """Writes strings and bytes as Python 2 did, which wrote CIFAR-10's files."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_binstring(self, content):
        data = content if isinstance(content, bytes) else content.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(content)

    dispatch[str] = dispatch[bytes] = save_binstring


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)


@pytest.fixture
def mnist_folder(tmp_path):
    """120 + 40 images in MNIST's format."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for stem, count in (("train", 120), ("t10k", 40)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, count, 28, 28) + images.tobytes())
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, count) + labels.tobytes())
    return tmp_path


@pytest.fixture
def cifar_folder(tmp_path, monkeypatch):
    """120 + 40 images in CIFAR-10's pickle layout, with torchvision told their checksums."""
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    rng = np.random.default_rng(2)

    def write(name, content):
        with open(folder / name, "wb") as file:
            Python2Pickler(file, protocol=2).dump(content)
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch(name, count):
        data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        labels = (np.arange(count) % 10).tolist()
        names = [f"{i}.png" for i in range(count)]
        return [name, write(name, {"data": data, "labels": labels, "batch_label": name, "filenames": names})]

    monkeypatch.setattr(CIFAR10, "train_list", [batch(name, count) for name, count in CIFAR_FILES.items()])
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch", 40)])
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    meta = write("batches.meta", {"label_names": names, "num_cases_per_batch": 30, "num_vis": 3072})
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": meta})
    return tmp_path


@pytest.fixture
def image_folder(tmp_path):
    """Three classes with 12 + 4 PNG images of 10x8 pixels each."""
    rng = np.random.default_rng(3)
    for part, count in (("train", 12), ("test", 4)):
        for name in ("cat", "dog", "owl"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i:02}.png")
                os.utime(folder / f"{i:02}.png", (1_600_000_000, 1_600_000_000))
    return tmp_path


@pytest.fixture(params=NAMES)
def build(request):
    """A function that builds one of the data modules on small data: the tests that use it run for each of them."""
    if request.param == "digits":
        return lambda **options: datamodules.DigitsDataModule(**{"train_size": 150, "test_size": 40, **options})
    if request.param == "tabular":
        return lambda **options: datamodules.TabularDataModule(table="wine", **options)
    if request.param == "mnist":
        folder, cls, extra = request.getfixturevalue("mnist_folder"), datamodules.MNISTDataModule, {"val_size": 20}
    elif request.param == "cifar10":
        folder, cls, extra = request.getfixturevalue("cifar_folder"), datamodules.CIFAR10DataModule, {"val_size": 20}
    else:
        folder, cls, extra = request.getfixturevalue("image_folder"), datamodules.ImageFolderDataModule, {"val_size": 6}
    return lambda **options: cls(data_dir=str(folder), **{**extra, **options})
