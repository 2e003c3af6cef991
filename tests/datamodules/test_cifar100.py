"""CIFAR-100 through torchvision's own code, on small files in the real layout."""

import pytest
import torch
from torchvision.datasets import CIFAR100

from datamodules import CIFAR100DataModule
from reference.torchvision_files import write_cifar


def small(folder, monkeypatch):
    """300 + 100 images in CIFAR-100's pickle layout."""
    counts = {"train": 300, "test": 100}
    return write_cifar(folder, monkeypatch, CIFAR100, counts, "fine_labels", CIFAR100DataModule.class_names)


def test_images_and_labels_are_torchvisions(tmp_path, monkeypatch):
    data = CIFAR100DataModule(**small(tmp_path, monkeypatch))
    images, labels = data.read("train")
    expected = CIFAR100(tmp_path)
    assert images.permute(0, 2, 3, 1).equal(torch.from_numpy(expected.data))
    assert labels.tolist() == expected.targets
    assert data.classes == expected.classes
    assert len(set(data.classes)) == data.num_classes == 100


def test_missing_and_corrupt_files(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"CIFAR-100's file .*cifar-100-python/train is missing"):
        CIFAR100DataModule(data_dir=str(tmp_path)).setup()
    options = small(tmp_path, monkeypatch)
    path = tmp_path / "cifar-100-python" / "test"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"CIFAR-100's file .*/test is corrupt: its MD5 is not"):
        CIFAR100DataModule(**options).setup()
