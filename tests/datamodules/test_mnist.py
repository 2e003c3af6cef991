"""MNIST through torchvision's own code."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import MNIST

from datamodules import MNISTDataModule
from reference.torchvision_files import write_mnist

# Read when pytest collects: the tests themselves run without DATA_DIR.
REAL = os.environ.get("DATA_DIR", "data")


def small(folder, monkeypatch):
    """120 + 40 images in MNIST's format."""
    return write_mnist(folder)


@pytest.fixture
def mnist_folder(tmp_path, monkeypatch):
    small(tmp_path, monkeypatch)
    return tmp_path


def test_images_and_labels_are_those_of_the_files(mnist_folder):
    data = MNISTDataModule(data_dir=str(mnist_folder), val_size=20)
    data.setup()
    raw = np.frombuffer((mnist_folder / "MNIST/raw/t10k-images-idx3-ubyte").read_bytes()[16:], dtype=np.uint8)
    ((images, labels),) = list(data.test_dataloader())
    pixels = images.double() * data.std[0] + data.mean[0]
    np.testing.assert_allclose(pixels.numpy().ravel() * 255, raw, atol=1e-4)
    assert labels.tolist() == [i % 10 for i in range(40)]


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"MNIST's four files are not in .*--data.download true") as caught:
        MNISTDataModule(data_dir=str(tmp_path)).setup()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
@pytest.mark.parametrize("damage", ["truncate", "header", "empty"])
def test_corrupt_file(mnist_folder, name, damage):
    path = mnist_folder / "MNIST" / "raw" / name
    content = path.read_bytes()
    path.write_bytes({"truncate": content[:-7], "header": b"\x07" * 8 + content[8:], "empty": b""}[damage])
    with pytest.raises(ValueError, match=re.escape(f"{name} ") + ".*is corrupt.*--data.download true") as caught:
        MNISTDataModule(data_dir=str(mnist_folder)).setup()
    assert "\n" not in str(caught.value)


def test_label_out_of_range(mnist_folder):
    path = mnist_folder / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x0b")
    with pytest.raises(ValueError, match=r"a label 11"):
        MNISTDataModule(data_dir=str(mnist_folder)).setup()


def test_failed_download(tmp_path, monkeypatch):
    monkeypatch.setattr(MNIST, "mirrors", [Path(tmp_path / "nowhere").as_uri() + "/"])
    with pytest.raises(OSError, match=r"MNIST could not be downloaded to .*; check the network") as caught:
        MNISTDataModule(data_dir=str(tmp_path), download=True).prepare_data()
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not (Path(REAL) / "MNIST").is_dir(), reason="needs the real MNIST in DATA_DIR")
def test_real_files():
    data = MNISTDataModule(data_dir=REAL, batch_size=1000)
    data.setup()
    assert [len(data.part_indices(part)) for part in ("train", "val", "test")] == [55_000, 5_000, 10_000]
    images = torch.cat([images for images, _ in data.train_dataloader()])
    # The constants are the mean and standard deviation of the 60,000 images to four digits.
    assert abs(images.mean()) < 2e-3
    assert abs(images.std() - 1) < 2e-3
    assert torch.bincount(data.part_labels("test")).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
