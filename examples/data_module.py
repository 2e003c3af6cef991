"""Our data module with a LightningModule of your own: it normalises, augments and splits, on the training device.

    python examples/data_module.py

Prints the sizes of the three parts, and the test loss and accuracy on scikit-learn's digits.
"""

import math

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules import DigitsDataModule  # or CIFAR10DataModule, ImageFolderDataModule, TabularDataModule ...


class LogisticRegression(pl.LightningModule):
    """One linear layer."""

    def __init__(self, image_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), num_classes))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of normalised float32 images [N, C, H, W] and int64 labels [N]."""
        images, labels = batch
        return F.cross_entropy(self.network(images), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log loss and accuracy."""
        images, labels = batch
        logits = self.network(images)
        self.log("loss", F.cross_entropy(logits, labels), prog_bar=True)
        self.log("accuracy", (logits.argmax(dim=1) == labels).float().mean(), prog_bar=True)

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=0.01)


def main() -> None:
    """Train and test."""
    pl.seed_everything(0, verbose=False)
    data = DigitsDataModule(batch_size=64, val_size=0.1, test_size=0.2)
    model = LogisticRegression(data.image_shape, data.num_classes)  # known before the data are read
    trainer = pl.Trainer(max_epochs=10, logger=False, enable_checkpointing=False)
    trainer.fit(model, data)
    (results,) = trainer.test(model, data, verbose=False)
    print(", ".join(f"{len(data.part_indices(part))} {part}" for part in ("train", "val", "test")), "images")
    print(f"test loss {results['loss']:.3f}, accuracy {results['accuracy']:.3f}")


if __name__ == "__main__":
    main()
