"""CIFAR-10 through torchvision's own code, on small files in the real layout."""

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from datamodules import CIFAR10DataModule
from reference.torchvision_files import write_cifar

CIFAR_FILES = {f"data_batch_{i}": count for i, count in enumerate((30, 20, 30, 20, 20), 1)} | {"test_batch": 40}


def small(folder, monkeypatch):
    """120 + 40 images in CIFAR-10's pickle layout."""
    return write_cifar(folder, monkeypatch, CIFAR10, CIFAR_FILES, "labels", CIFAR10DataModule.class_names)


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
