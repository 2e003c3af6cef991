"""KMNIST through torchvision's own code, on small files in the real layout."""

import pytest
from torchvision.datasets import KMNIST

from datamodules import KMNISTDataModule
from reference.torchvision_files import write_mnist


def small(folder, monkeypatch):
    """120 + 40 images in MNIST's format."""
    return write_mnist(folder, "KMNIST")


def test_images_and_labels_are_torchvisions(tmp_path, monkeypatch):
    data = KMNISTDataModule(**small(tmp_path, monkeypatch))
    images, labels = data.read("test")
    expected = KMNIST(tmp_path, train=False)
    assert images[:, 0].equal(expected.data)
    assert labels.equal(expected.targets)
    assert data.classes == expected.classes


def test_missing_and_corrupt_files(tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r"KMNIST's four files are not in .*/KMNIST/raw; .*--data.download true"
    ):
        KMNISTDataModule(data_dir=str(tmp_path)).setup()
    options = small(tmp_path, monkeypatch)
    path = tmp_path / "KMNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"KMNIST's t10k-images-idx3-ubyte or .*/KMNIST/raw is corrupt"):
        KMNISTDataModule(**options).read("test")
