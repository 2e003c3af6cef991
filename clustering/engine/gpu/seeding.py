"""Greedy k-means++ on a device (see `engine.seeding`): no step waits for the host."""

import math

import torch
from torch import Tensor

from .points import Points


def plus_plus(points: Points, clusters: int) -> Tensor:
    """Return the numbers of `clusters` points, int64, chosen by greedy k-means++."""
    trials = 2 + int(math.log(clusters))
    chosen = torch.empty(clusters, dtype=torch.int64, device=points.rows.device)
    chosen[:1] = points.draw(torch.ones_like(points.weights), 1)
    closest = points.squares_from(chosen[:1])[0]
    for number in range(1, clusters):
        drawn = points.draw(closest, trials)
        squares = torch.minimum(points.squares_from(drawn), closest)
        best = (squares * points.weights).sum(dim=1).argmin().view(1)
        chosen[number : number + 1] = drawn[best]
        closest = squares[best][0]
    return chosen
