"""MNIST."""

from typing import Literal

from torch import Tensor
from torchvision.datasets import MNIST

from .torchvision_set import TorchvisionDataModule


class MNISTDataModule(TorchvisionDataModule):
    """70,000 handwritten digits of 28x28 pixels (LeCun et al., http://yann.lecun.com/exdb/mnist/).

    The four files are in `data_dir/MNIST/raw`; options and errors are those of `TorchvisionDataModule`.
    """

    dataset, title = MNIST, "MNIST"
    class_names = tuple("0123456789")
    num_classes = 10
    image_shape = (1, 28, 28)
    mean = (0.1307,)
    std = (0.3081,)

    def read(self, part: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """Return the images, uint8 `[N, 1, 28, 28]`, and the labels of the training or test set."""
        stem = "train" if part == "train" else "t10k"
        try:
            dataset = self.dataset(self.data_dir, train=part == "train")
        except RuntimeError as error:
            if "not found" not in str(error):
                raise self._corrupt(stem, error) from error
            raise FileNotFoundError(
                f"{self.title}'s four files are not in {self._folder}; name the folder above with --data.data_dir, "
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

    @property
    def _folder(self) -> str:
        return f"{self.data_dir}/{self.dataset.__name__}/raw"

    def _corrupt(self, stem: str, reason: object) -> ValueError:
        return ValueError(
            f"{self.title}'s {stem}-images-idx3-ubyte or {stem}-labels-idx1-ubyte in {self._folder} is corrupt "
            f"({str(reason) or 'its size is wrong'}); delete both and fetch them with --data.download true"
        )
