"""Greedy k-means++ on a device (see `engine.seeding`): no step waits for the host, and a centre takes few launches."""

import math

import torch
from torch import Tensor

from .nearest import exact_products
from .points import Points

_DRAWS = 1 << 22
"""Random numbers that are drawn at once, for several centres."""


def plus_plus(points: Points, clusters: int) -> Tensor:
    """Return the numbers of `clusters` points, int64, chosen by greedy k-means++."""
    trials, count = 2 + int(math.log(clusters)), len(points.rows)
    chosen = torch.empty(clusters, dtype=torch.int64, device=points.rows.device)
    chosen[:1] = points.draw(torch.ones_like(points.weights), 1)
    closest, none = points.squares_from(chosen[:1]), points.squares.new_zeros(())
    # |x|^2 + |y|^2 - 2 <x, y> as one product.
    ones = torch.ones_like(points.squares)
    left = torch.stack([ones, points.squares, *points.rows.T], dim=1)
    right = torch.stack([points.squares, ones, *points.rows.mul(-2).T])
    weights = points.given_weights
    number = 1
    with exact_products(points.rows.device):
        while number < clusters:
            chances, least = points.chances(max(1, min(clusters - number, _DRAWS // (trials * count))), trials)
            for chance, small in zip(chances, least, strict=True):
                drawn = torch.addcmul(small, chance, closest).argmax(dim=1)
                squares = (left.index_select(0, drawn) @ right).clamp_(none, closest)
                best = (squares if weights is None else squares * weights).sum(dim=1).argmin(dim=0, keepdim=True)
                torch.index_select(drawn, 0, best, out=chosen[number : number + 1])
                torch.index_select(squares, 0, best, out=closest)
                number += 1
    return chosen
