"""Street View House Numbers."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torchvision.datasets import SVHN
from torchvision.datasets.utils import check_integrity

from .torchvision_set import TorchvisionDataModule


class SVHNDataModule(TorchvisionDataModule):
    """99,289 colour images of house numbers, 32x32 pixels around one digit (Netzer et al. 2011).

    See http://ufldl.stanford.edu/housenumbers: 73,257 images for training, 26,032 for testing; the `extra` images are
    not read. The files `train_32x32.mat` and `test_32x32.mat` are in `data_dir`; options and errors are those of
    `TorchvisionDataModule`.
    """

    dataset, title = SVHN, "SVHN"
    class_names = tuple("0123456789")
    num_classes = 10
    image_shape = (3, 32, 32)
    mean = (0.4377, 0.4438, 0.4728)
    std = (0.1980, 0.2010, 0.1970)

    def fetch(self) -> None:
        """Download both files."""
        for part in ("train", "test"):
            SVHN(self.data_dir, split=part, download=True)

    def read(self, part: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """Return the images, uint8 `[N, 3, 32, 32]`, and the labels of the training or test set."""
        _, name, md5 = SVHN.split_list[part]
        path = Path(self.data_dir) / name
        if not path.is_file():
            raise FileNotFoundError(
                f"SVHN's file {path} is missing; name its folder with --data.data_dir, or fetch it with "
                "--data.download true"
            )
        if not check_integrity(path, md5):
            raise ValueError(
                f"SVHN's file {path} is corrupt: its MD5 is not {md5}; delete it and fetch it with --data.download true"
            )
        dataset = SVHN(self.data_dir, split=part)
        return torch.from_numpy(dataset.data), torch.from_numpy(dataset.labels)
