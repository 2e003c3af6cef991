"""Fashion-MNIST through torchvision's own code, on small files in the real layout."""

import pytest
from torchvision.datasets import FashionMNIST

from datamodules import FashionMNISTDataModule
from reference.torchvision_files import write_mnist


def small(folder, monkeypatch):
    """120 + 40 images in MNIST's format."""
    return write_mnist(folder, "FashionMNIST")


def test_images_and_labels_are_torchvisions(tmp_path, monkeypatch):
    data = FashionMNISTDataModule(**small(tmp_path, monkeypatch))
    images, labels = data.read("test")
    expected = FashionMNIST(tmp_path, train=False)
    assert images[:, 0].equal(expected.data)
    assert labels.equal(expected.targets)
    assert data.classes == expected.classes


def test_missing_and_corrupt_files(tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r"Fashion-MNIST's four files are not in .*/FashionMNIST/raw; .*--data.download true"
    ):
        FashionMNISTDataModule(data_dir=str(tmp_path)).setup()
    options = small(tmp_path, monkeypatch)
    path = tmp_path / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"Fashion-MNIST's t10k-images-idx3-ubyte or .*/FashionMNIST/raw is corrupt"):
        FashionMNISTDataModule(**options).read("test")
