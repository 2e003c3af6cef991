"""SAM in a plain loop with mixed precision: float16 and a GradScaler on a GPU, bfloat16 without scaling on a CPU.

    python examples/sam_mixed_precision.py

Trains on scikit-learn's digits and prints the loss of the last batch and the test accuracy after each epoch.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from optim import SAM

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE, SCALED = (torch.float16, True) if DEVICE == "cuda" else (torch.bfloat16, False)


def main() -> None:
    """Train and test."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32, device=DEVICE)[:, None] / 16
    labels = torch.tensor(digits.target, device=DEVICE)
    loader = DataLoader(TensorDataset(images[:1400], labels[:1400]), batch_size=64, shuffle=True)

    model = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(288, 10)).to(DEVICE)
    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler(DEVICE, enabled=SCALED)

    for epoch in range(1, 7):
        for x, y in loader:
            with torch.autocast(DEVICE, DTYPE):
                loss = F.cross_entropy(model(x), y)
            scaler.scale(loss).backward()
            optimizer.first_step(zero_grad=True)  # does not depend on the gradient's scale

            with torch.autocast(DEVICE, DTYPE):
                perturbed = F.cross_entropy(model(x), y)
            scaler.scale(perturbed).backward()
            scaler.unscale_(optimizer)  # before the step, and before clipping if there is any
            optimizer.second_step(zero_grad=True)
            scaler.update()

        with torch.no_grad(), torch.autocast(DEVICE, DTYPE):
            accuracy = (model(images[1400:]).argmax(dim=1) == labels[1400:]).float().mean()
        print(f"epoch {epoch}: loss {loss:.3f}, at the perturbed weights {perturbed:.3f}, accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
