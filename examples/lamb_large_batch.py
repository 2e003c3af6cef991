"""LAMB at a large batch: linear warm-up, then a cosine decay, with torch's schedulers.

    python examples/lamb_large_batch.py

Trains on scikit-learn's digits with batches of 700 (two steps an epoch), and prints the learning rate, the loss and the
test accuracy on the way.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from optim import LAMB

BATCH, STEPS, WARM_UP = 700, 100, 10


def main() -> None:
    """Train and test."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target)
    train_images, train_labels = images[:1400], labels[:1400]

    model = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(288, 10))
    optimizer = LAMB(model.parameters(), lr=0.05, weight_decay=0.01)
    warm_up = LinearLR(optimizer, start_factor=1 / WARM_UP, total_iters=WARM_UP)
    decay = CosineAnnealingLR(optimizer, T_max=STEPS - WARM_UP)
    scheduler = SequentialLR(optimizer, [warm_up, decay], milestones=[WARM_UP])

    for step in range(1, STEPS + 1):
        chosen = torch.randperm(len(train_images))[:BATCH]
        loss = F.cross_entropy(model(train_images[chosen]), train_labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr = optimizer.param_groups[0]["lr"]
        scheduler.step()
        if step in (1, WARM_UP) or step % 25 == 0:
            with torch.no_grad():
                accuracy = (model(images[1400:]).argmax(dim=1) == labels[1400:]).float().mean()
            print(f"step {step}: learning rate {lr:.4f}, loss {loss:.3f}, accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
