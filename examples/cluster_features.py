"""K-means of a timm network's features, compared with the true classes by the adjusted Rand index.

    python examples/cluster_features.py

Trains the network on 1,000 of scikit-learn's digits, clusters the other 797, and prints the index for their pixels and
for their features.
"""

from typing import Any

import timm
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from clustering import KMeans, adjusted_rand_score


def main() -> None:
    """Train and cluster."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    images = F.interpolate(images, size=32)
    labels = torch.tensor(digits.target)

    network: Any = timm.create_model("test_resnet", in_chans=1, num_classes=0)  # returns features [N, D]
    model = nn.Sequential(network, nn.Linear(network.num_features, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(4):
        for x, y in DataLoader(TensorDataset(images[:1000], labels[:1000]), batch_size=64, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

    network.eval()  # with timm.create_model("resnet50", pretrained=True, num_classes=0), start here
    with torch.no_grad():
        features = network(images[1000:])
    for name, rows in {"pixels": images[1000:].flatten(1), "features": features}.items():
        clusters = KMeans(10, random_state=0).fit_predict(rows)  # tensors or numpy arrays
        print(f"{name}: adjusted Rand index {adjusted_rand_score(labels[1000:], clusters):.3f}")


if __name__ == "__main__":
    main()
