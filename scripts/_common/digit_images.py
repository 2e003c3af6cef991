"""Handwritten digits as stored, unscaled and unshuffled, for experiments that train no network."""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from datamodules import DigitsDataModule, MNISTDataModule

Source = Literal["digits", "mnist"]


class DigitImages(NamedTuple):
    """Images and their classes."""

    images: npt.NDArray[np.uint8]  # [N, H, W], 0 to 255
    labels: npt.NDArray[np.int64]  # [N], 0 to 9


def read_digits(source: Source, part: Literal["train", "test"], data_dir: str | None = None) -> DigitImages:
    """Read a part of scikit-learn's digits (8x8, a fifth of them for testing) or of MNIST (28x28, from `data_dir`).

    Example:
        >>> read_digits("digits", "test").images.shape
        (359, 8, 8)
    """
    if source == "mnist":
        mnist = MNISTDataModule(data_dir=data_dir)
        try:
            images, labels = mnist.read(part)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"MNIST's four files are not in {mnist.data_dir}/MNIST/raw: name their folder by --data_dir or by the "
                "environment's DATA_DIR, or fetch them: scripts/train.py --data MNISTDataModule --data.download true"
            ) from None
    else:
        digits = DigitsDataModule(val_size=0)
        everything = digits.read("train")
        assert everything is not None  # all digits are read, then split
        images, labels = (tensor[digits.part_indices(part)] for tensor in everything)
    return DigitImages(images.squeeze(1).numpy(), labels.numpy())
