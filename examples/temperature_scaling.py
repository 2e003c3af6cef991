"""Temperature scaling of any network's logits: fit on held-out data, and apply behind the network.

    python examples/temperature_scaling.py

Trains an overconfident network on 200 of scikit-learn's digits and prints its temperature, and the calibration error,
the loss and the accuracy on test images before and after.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from evaluation import TemperatureScaling, calibration_error


def main() -> None:
    """Train, calibrate and test."""
    torch.manual_seed(0)
    digits = load_digits()
    order = torch.randperm(len(digits.images))
    images = torch.tensor(digits.images, dtype=torch.float32)[order] / 16
    labels = torch.tensor(digits.target)[order]
    train, held_out, test = slice(200), slice(200, 800), slice(800, None)

    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 200), nn.ReLU(), nn.Linear(200, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(500):
        optimizer.zero_grad()
        F.cross_entropy(network(images[train]), labels[train]).backward()
        optimizer.step()

    with torch.no_grad():
        scaler = TemperatureScaling().fit(network(images[held_out]), labels[held_out])
        print(f"temperature {scaler.temperature_:.2f}")
        for name, model in {"before": network, "after": nn.Sequential(network, scaler)}.items():
            logits = model(images[test])
            error = calibration_error(logits, labels[test], from_logits=True)
            loss = F.cross_entropy(logits, labels[test])
            accuracy = (logits.argmax(dim=1) == labels[test]).float().mean()
            print(f"{name}: calibration error {error:.4f}, loss {loss:.3f}, accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
