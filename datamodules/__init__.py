"""Data modules that keep the set as one uint8 tensor and make batches from it on the training device."""

from .cifar import CIFAR10DataModule as CIFAR10DataModule
from .cifar100 import CIFAR100DataModule as CIFAR100DataModule
from .digits import DigitsDataModule as DigitsDataModule
from .fashion_mnist import FashionMNISTDataModule as FashionMNISTDataModule
from .image_folder import ImageFolderDataModule as ImageFolderDataModule
from .kmnist import KMNISTDataModule as KMNISTDataModule
from .mnist import MNISTDataModule as MNISTDataModule
from .svhn import SVHNDataModule as SVHNDataModule
from .tabular import TabularDataModule as TabularDataModule
