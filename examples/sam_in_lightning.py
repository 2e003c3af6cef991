"""SAM in a LightningModule of your own: inherit from TwoPassMixin and return SAM; the rest stays as it is.

    python examples/sam_in_lightning.py

Trains a small network on scikit-learn's digits and prints its test loss and accuracy.
"""

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

from lightning_modules import TwoPassMixin
from optim import SAM


class Classifier(TwoPassMixin, pl.LightningModule):
    """A convolution with batch normalisation and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        convolution = nn.Sequential(nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2))
        self.network = nn.Sequential(convolution, nn.Flatten(), nn.Linear(32 * 3 * 3, 10))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Return the loss; SAM evaluates it twice, but it is logged once."""
        loss = F.cross_entropy(self.network(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Log loss and accuracy."""
        images, labels = batch
        logits = self.network(images)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        self.log_dict({"loss": F.cross_entropy(logits, labels), "accuracy": accuracy})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return SAM around SGD; `lr` and `momentum` are SGD's."""
        return SAM(self.parameters(), torch.optim.SGD, rho=0.1, lr=0.05, momentum=0.9)


def main() -> None:
    """Train and test."""
    pl.seed_everything(0, verbose=False)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    train, test = random_split(TensorDataset(images, torch.tensor(digits.target)), [0.8, 0.2])
    # Clipping, accumulation and precision are Lightning's, as with any other optimizer.
    trainer = pl.Trainer(max_epochs=8, gradient_clip_val=1.0, logger=False, enable_checkpointing=False)
    model = Classifier()
    trainer.fit(model, DataLoader(train, batch_size=32, shuffle=True))
    (results,) = trainer.test(model, DataLoader(test, batch_size=500), verbose=False)
    print(f"test loss {results['loss']:.3f}, accuracy {results['accuracy']:.3f}")


if __name__ == "__main__":
    main()
