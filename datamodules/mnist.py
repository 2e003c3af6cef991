"""MNIST."""

from typing import Any, Literal

from torch import Tensor
from torchvision.datasets import MNIST

from .files.torchvision_files import download
from .image import ImageDataModule


class MNISTDataModule(ImageDataModule):
    """70,000 handwritten digits of 28x28 pixels (LeCun et al., http://yann.lecun.com/exdb/mnist/).

    torchvision reads, downloads and checks the four files in `data_dir/MNIST/raw`.

    Args:
        download: Download missing files.
        val_size: Validation examples, a count or a fraction of the 60,000; 0 or None: no validation part.
        **options: See `ImageDataModule` and `SplitDataModule`.

    Raises:
        FileNotFoundError: If the files are missing.
        ValueError: If an option is out of range, or a file is corrupt.
        OSError: If the download fails.
    """

    num_classes = 10
    image_shape = (1, 28, 28)
    mean = (0.1307,)
    std = (0.3081,)

    def __init__(self, *, download: bool = False, val_size: int | float | None = 5000, **options: Any) -> None:
        super().__init__(val_size=val_size, **options)
        self.download = download
        self.classes = [str(digit) for digit in range(10)]

    def prepare_data(self) -> None:
        """Download the files if `download` is set."""
        if self.download:
            download("MNIST", MNIST, self.data_dir)

    def read(self, part: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """Return the images, uint8 `[N, 1, 28, 28]`, and the labels of the training or test set."""
        stem = "train" if part == "train" else "t10k"
        try:
            dataset = MNIST(self.data_dir, train=part == "train")
        except RuntimeError as error:
            if "not found" not in str(error):
                raise self._corrupt(stem, error) from error
            raise FileNotFoundError(
                f"MNIST's four files are not in {self.data_dir}/MNIST/raw; name their folder with --data.data_dir, "
                "or fetch them with --data.download true"
            ) from error
        except (ValueError, TypeError, AssertionError, KeyError) as error:  # torchvision's reader has no error class
            raise self._corrupt(stem, error) from error
        images, labels = dataset.data, dataset.targets
        if images.shape[1:] != self.image_shape[1:] or len(images) != len(labels):
            raise self._corrupt(stem, f"{len(labels)} labels for images of shape {tuple(images.shape)}")
        if labels.min() < 0 or labels.max() > 9:
            raise self._corrupt(stem, f"a label {int(labels.max())}")
        return images.unsqueeze(1), labels.long()

    def _corrupt(self, stem: str, reason: object) -> ValueError:
        return ValueError(
            f"MNIST's {stem}-images-idx3-ubyte or {stem}-labels-idx1-ubyte in {self.data_dir}/MNIST/raw is corrupt "
            f"({str(reason) or 'its size is wrong'}); delete both and fetch them with --data.download true"
        )
