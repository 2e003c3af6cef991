"""CIFAR-10 through torchvision's own code, on small files in the real layout."""

import hashlib
import pickle
import struct
from typing import ClassVar

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from datamodules import CIFAR10DataModule

CIFAR_FILES = {"data_batch_1": 30, "data_batch_2": 20, "data_batch_3": 30, "data_batch_4": 20, "data_batch_5": 20}


class Python2Pickler(pickle._Pickler):
    """Writes strings and bytes as Python 2 did, which wrote CIFAR-10's files."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_binstring(self, content):
        data = content if isinstance(content, bytes) else content.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(content)

    dispatch[str] = dispatch[bytes] = save_binstring


def small(folder, monkeypatch):
    """120 + 40 images in CIFAR-10's pickle layout, with their checksums given to torchvision."""
    files = folder / CIFAR10.base_folder
    files.mkdir()
    rng = np.random.default_rng(2)

    def write(name, content):
        with open(files / name, "wb") as file:
            Python2Pickler(file, protocol=2).dump(content)
        return hashlib.md5((files / name).read_bytes()).hexdigest()

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
    return {"data_dir": str(folder), "val_size": 20}


@pytest.fixture
def cifar_folder(tmp_path, monkeypatch):
    small(tmp_path, monkeypatch)
    return tmp_path


def test_images_and_labels_are_torchvisions(cifar_folder):
    data = CIFAR10DataModule(data_dir=str(cifar_folder), val_size=20)
    data.setup()
    expected = CIFAR10(cifar_folder, train=False)
    ((images, labels),) = list(data.test_dataloader())
    pixels = (images.double() * torch.tensor(data.std).view(-1, 1, 1) + torch.tensor(data.mean).view(-1, 1, 1)) * 255
    np.testing.assert_allclose(pixels.permute(0, 2, 3, 1).numpy(), expected.data, atol=1e-4)
    assert labels.tolist() == expected.targets
    assert data.classes == expected.classes


def test_all_five_files_are_read(cifar_folder):
    data = CIFAR10DataModule(data_dir=str(cifar_folder), val_size=20)
    data.setup()
    assert len(data.part_indices("train")) == 100
    assert len(data.part_indices("val")) == 20


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_corrupt_file(cifar_folder, name):
    path = cifar_folder / CIFAR10.base_folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is corrupt: its MD5 is not .*--data.download true") as caught:
        CIFAR10DataModule(data_dir=str(cifar_folder)).setup()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["data_batch_1", "batches.meta"])
def test_missing_file(cifar_folder, name):
    (cifar_folder / CIFAR10.base_folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing; .*--data.download true") as caught:
        CIFAR10DataModule(data_dir=str(cifar_folder)).setup()
    assert "\n" not in str(caught.value)


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data_batch_1 is missing"):
        CIFAR10DataModule(data_dir=str(tmp_path)).setup()


def test_failed_download(tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, "url", (tmp_path / "nowhere.tar.gz").as_uri())
    with pytest.raises(OSError, match=r"CIFAR-10 could not be downloaded to .*; check the network") as caught:
        CIFAR10DataModule(data_dir=str(tmp_path), download=True).prepare_data()
    assert "\n" not in str(caught.value)
