"""Data modules whose batches are made from one uint8 tensor, on the device that trains."""

from .cifar import CIFAR10DataModule as CIFAR10DataModule
from .digits import DigitsDataModule as DigitsDataModule
from .image_folder import ImageFolderDataModule as ImageFolderDataModule
from .mnist import MNISTDataModule as MNISTDataModule
from .tabular import TabularDataModule as TabularDataModule
