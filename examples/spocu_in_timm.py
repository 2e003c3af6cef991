"""SPOCU in a network of timm: one call swaps every ReLU, modules and functional calls alike.

    python examples/spocu_in_timm.py

Trains on scikit-learn's digits. Prints the number of activations swapped and, after each epoch, the loss of the last
batch and the test accuracy.
"""

from functools import partial

import timm
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from activations import SPOCU, replace


def main() -> None:
    """Swap, train and test."""
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", in_chans=1, num_classes=10)  # for real images: "resnet50", ...
    swapped = replace(model, nn.ReLU, partial(SPOCU, c=1))  # each site gets an instance of its own
    print(f"{swapped} activations swapped")

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    images = F.interpolate(images, size=32)
    labels = torch.tensor(digits.target)
    loader = DataLoader(TensorDataset(images[:1400], labels[:1400]), batch_size=64, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(1, 5):
        model.train()
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(images[1400:]).argmax(dim=1) == labels[1400:]).float().mean()
        print(f"epoch {epoch}: loss {loss:.3f}, accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
