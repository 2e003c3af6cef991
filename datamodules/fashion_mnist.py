"""Fashion-MNIST."""

from torchvision.datasets import FashionMNIST

from .mnist import MNISTDataModule


class FashionMNISTDataModule(MNISTDataModule):
    """70,000 grey images of articles of 28x28 pixels in 10 classes (Xiao et al. 2017, https://arxiv.org/abs/1708.07747).

    The four files are in `data_dir/FashionMNIST/raw`; options and errors are those of `TorchvisionDataModule`.
    """

    dataset, title = FashionMNIST, "Fashion-MNIST"
    class_names = tuple(FashionMNIST.classes)
    mean = (0.2860,)
    std = (0.3530,)
