"""scikit-learn's digits."""

import torch
from sklearn.datasets import load_digits

from datamodules import DigitsDataModule


def small(folder, monkeypatch):
    """150 training examples of the real set."""
    return {"train_size": 150, "test_size": 40}


def test_images_and_labels_are_scikit_learns():
    images, labels = DigitsDataModule().read("train")
    bunch = load_digits()
    assert images.dtype == torch.uint8
    assert images.shape == (1797, 1, 8, 8)
    assert (images.squeeze(1).double() * 16 / 255 - torch.from_numpy(bunch.images)).abs().max() < 0.05
    assert labels.tolist() == bunch.target.tolist()
    assert DigitsDataModule().read("test") is None
