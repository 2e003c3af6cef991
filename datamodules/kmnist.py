"""Kuzushiji-MNIST."""

from torchvision.datasets import KMNIST

from .mnist import MNISTDataModule


class KMNISTDataModule(MNISTDataModule):
    """70,000 handwritten hiragana of 28x28 pixels in 10 classes (Clanuwat et al. 2018, https://arxiv.org/abs/1812.01718).

    The four files are in `data_dir/KMNIST/raw`; options and errors are those of `TorchvisionDataModule`.
    """

    dataset, title = KMNIST, "KMNIST"
    class_names = tuple(KMNIST.classes)
    mean = (0.1918,)
    std = (0.3483,)
