"""scikit-learn's handwritten digits: real data without a download."""

from typing import Any, Literal

import torch
from torch import Tensor

from ._checks import size
from .image import ImageDataModule


class DigitsDataModule(ImageDataModule):
    """1,797 handwritten digits of 8x8 pixels (UCI's optical recognition set, from scikit-learn).

    The 17 grey levels are spread over 0..255. All three parts are drawn from the one set.

    Args:
        test_size: Test examples, a count or a fraction of all.
        **options: See `ImageDataModule` and `SplitDataModule`.

    Raises:
        ValueError: If an option is out of range.

    >>> data = DigitsDataModule(batch_size=32)
    >>> data.setup()
    >>> images, labels = next(iter(data.train_dataloader()))
    >>> images.shape, images.dtype, labels.dtype
    (torch.Size([32, 1, 8, 8]), torch.float32, torch.int64)
    """

    num_classes = 10
    image_shape = (1, 8, 8)

    def __init__(self, *, test_size: int | float = 0.2, **options: Any) -> None:
        super().__init__(**options)
        self.test_size = size("test_size", test_size)
        self.classes = [str(digit) for digit in range(10)]

    def read(self, part: Literal["train", "test"]) -> tuple[Tensor, Tensor] | None:
        """Return all images, uint8 `[N, 1, 8, 8]`, and labels as the training set; None for the test set."""
        from sklearn.datasets import load_digits  # takes a second, and only this set needs it

        if part == "test":
            return None
        levels, target = load_digits(return_X_y=True)
        images = torch.from_numpy((levels * (255 / 16)).round().astype("uint8"))
        return images.view(-1, *self.image_shape), torch.from_numpy(target).long()
