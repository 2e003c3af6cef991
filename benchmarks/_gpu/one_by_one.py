"""The usual dataset of images, from which torchvision's transforms make one after the other."""

from collections.abc import Callable

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset


class OneByOne(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's CIFAR10 gives them: from the array to PIL, through the transforms."""

    def __init__(self, images: np.ndarray, transform: Callable[[Image.Image], Tensor]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), index % 10
