"""Data modules that keep the set as one uint8 tensor and make batches from it on the training device."""

from .cifar import CIFAR10DataModule as CIFAR10DataModule
from .digits import DigitsDataModule as DigitsDataModule
from .image_folder import ImageFolderDataModule as ImageFolderDataModule
from .mnist import MNISTDataModule as MNISTDataModule
from .tabular import TabularDataModule as TabularDataModule
