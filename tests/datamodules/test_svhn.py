"""SVHN through torchvision's own code, on small files in the real layout."""

import hashlib

import numpy as np
import pytest
import scipy.io
import torch
from torchvision.datasets import SVHN

from datamodules import SVHNDataModule


def small(folder, monkeypatch):
    """120 + 40 images in SVHN's MATLAB layout, where the digit 0 has the label 10."""
    rng = np.random.default_rng(3)
    files = {}
    for part, count in (("train", 120), ("test", 40)):
        name = f"{part}_32x32.mat"
        images = rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        labels = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]
        scipy.io.savemat(folder / name, {"X": images, "y": labels})
        files[part] = ["", name, hashlib.md5((folder / name).read_bytes()).hexdigest()]
    monkeypatch.setattr(SVHN, "split_list", files)
    return {"data_dir": str(folder), "val_size": 20}


@pytest.mark.parametrize("part", ["train", "test"])
def test_images_and_labels_are_torchvisions(part, tmp_path, monkeypatch):
    images, labels = SVHNDataModule(**small(tmp_path, monkeypatch)).read(part)
    expected = SVHN(tmp_path, split=part)
    assert images.equal(torch.from_numpy(expected.data))
    assert labels.tolist() == expected.labels.tolist()
    assert labels[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


def test_both_files_are_downloaded(tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setattr(SVHN, "download", lambda self: fetched.append(self.filename))
    options = small(tmp_path, monkeypatch)
    SVHNDataModule(**options, download=True).prepare_data()
    assert fetched == ["train_32x32.mat", "test_32x32.mat"]


def test_missing_and_corrupt_files(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"SVHN's file .*train_32x32.mat is missing; .*--data.download true"):
        SVHNDataModule(data_dir=str(tmp_path)).setup()
    options = small(tmp_path, monkeypatch)
    path = tmp_path / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"SVHN's file .*test_32x32.mat is corrupt: its MD5 is not"):
        SVHNDataModule(**options).setup()
