"""Wrong labels on purpose: a share of the training labels replaced by other classes."""

import numpy as np
import torch
from torch import Tensor


def noisy_labels(labels: Tensor, chosen: Tensor, fraction: float, num_classes: int, seed: int) -> Tensor:
    """Return labels with symmetric noise: a share of the chosen ones is replaced by another class, drawn uniformly.

    What an example's label becomes, and its place in the order in which examples lose theirs, are functions of the seed
    and of its position alone: a larger share keeps the wrong labels of a smaller one.

    Args:
        labels: Class of each example of the set, int64 `[N]`.
        chosen: Examples that may get a wrong label, int64 `[n]`.
        fraction: Share of them that get one, in [0, 1]: `round(fraction * n)` examples.
        num_classes: Number of classes K, at least 2.
        seed: Seed.

    Returns:
        Labels on the same device; `labels` itself if nothing is replaced.

    >>> labels = torch.zeros(10, dtype=torch.long)
    >>> int((noisy_labels(labels, torch.arange(10), 0.4, 3, seed=0) != labels).sum())
    4
    """
    count = round(fraction * len(chosen))
    if count == 0:
        return labels
    generator = np.random.default_rng([seed, 0x6C616265])  # not the numbers of the split
    turn, other = generator.random(len(labels)), generator.integers(1, num_classes, len(labels))
    places = np.sort(chosen.cpu().numpy())
    places = places[np.argsort(turn[places], kind="stable")[:count]]
    noisy = labels.cpu().clone()
    noisy[places] = (noisy[places] + torch.from_numpy(other[places])) % num_classes
    return noisy.to(labels.device)
