"""CIFAR-10."""

from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity

from .torchvision_set import TorchvisionDataModule

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


class CIFAR10DataModule(TorchvisionDataModule):
    """60,000 colour images of 32x32 pixels in 10 classes (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html).

    The files are in `data_dir/cifar-10-batches-py`; options and errors are those of `TorchvisionDataModule`.
    """

    dataset, title = CIFAR10, "CIFAR-10"
    class_names: ClassVar[tuple[str, ...]] = tuple(CLASSES)
    num_classes = 10
    image_shape = (3, 32, 32)
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)

    def read(self, part: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """Return the images, uint8 `[N, 3, 32, 32]`, and labels of the training or test set."""
        try:
            dataset = self.dataset(self.data_dir, train=part == "train")
        except RuntimeError as error:
            raise self._reason() from error
        # torchvision's [N, H, W, C] is a view of the file's [N, C, H, W].
        images = torch.from_numpy(dataset.data.transpose(0, 3, 1, 2))
        return images, torch.tensor(dataset.targets)

    def _reason(self) -> ValueError | FileNotFoundError:
        """Return an error that names the file torchvision refuses, and the reason."""
        source = self.dataset
        folder = Path(self.data_dir) / source.base_folder
        meta = [source.meta["filename"], source.meta["md5"]]
        for name, md5 in [*source.train_list, *source.test_list, meta]:
            if not (folder / name).is_file():
                return FileNotFoundError(
                    f"{self.title}'s file {folder / name} is missing; name the folder above {source.base_folder} with "
                    "--data.data_dir, or fetch it with --data.download true"
                )
            if not check_integrity(folder / name, md5):
                return ValueError(
                    f"{self.title}'s file {folder / name} is corrupt: its MD5 is not {md5}; "
                    "fetch it with --data.download true"
                )
        return ValueError(f"{self.title} in {folder} cannot be read; delete it and fetch it with --data.download true")
