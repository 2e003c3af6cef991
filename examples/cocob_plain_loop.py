"""COCOB in a plain loop: there is no learning rate to choose, and the scale of the loss does not matter.

    python examples/cocob_plain_loop.py

Trains twice on scikit-learn's digits, with the loss and with 1000 times the loss, and prints both test accuracies.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from optim import COCOB


def train(images: torch.Tensor, labels: torch.Tensor, scale: float) -> nn.Module:
    """Return a network after ten epochs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    optimizer = COCOB(model.parameters())
    loader = DataLoader(TensorDataset(images, labels), batch_size=64, shuffle=True)
    for _ in range(10):
        for x, y in loader:
            loss = scale * F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def main() -> None:
    """Train with both scales and test."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32) / 16
    labels = torch.tensor(digits.target)
    for scale in (1, 1000):
        model = train(images[:1400], labels[:1400], scale)
        with torch.no_grad():
            logits = model(images[1400:])
        accuracy = (logits.argmax(dim=1) == labels[1400:]).float().mean()
        print(f"loss x {scale}: test loss {F.cross_entropy(logits, labels[1400:]):.3f}, accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
