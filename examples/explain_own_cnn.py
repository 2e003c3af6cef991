"""eli5 on a CNN of your own: importing evaluation.explanation teaches eli5 PyTorch.

    python examples/explain_own_cnn.py

Trains the CNN on scikit-learn's digits, prints its test accuracy and the explanation of one prediction (Grad-CAM), and
writes the picture with its heatmap to explanation.html.
"""

from pathlib import Path

import eli5
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import evaluation.explanation  # noqa: F401


class CNN(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 32, 3, padding=1)
        self.head = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, 10] of images [N, 1, 8, 8]."""
        maps = F.relu(self.second(F.relu(self.first(images))))
        return self.head(maps.mean(dim=(2, 3)))


def main() -> None:
    """Train, test and explain."""
    torch.manual_seed(0)
    digits = load_digits()
    images = (torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16 - 0.3) / 0.4
    labels = torch.tensor(digits.target)
    model = CNN()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(30):
        for chosen in torch.randperm(1400).split(100):
            optimizer.zero_grad()
            F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
    with torch.no_grad():
        print(f"accuracy {(model(images[1400:]).argmax(dim=1) == labels[1400:]).float().mean():.3f}")

    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    explanation = eli5.explain_prediction(model, images[1400], target_names=names, mean=0.3, std=0.4)
    print(eli5.format_as_text(explanation))
    # In a notebook, eli5.show_prediction(model, images[1400], ...) shows the same.
    Path("explanation.html").write_text(eli5.format_as_html(explanation))


if __name__ == "__main__":
    main()
