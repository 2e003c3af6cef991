"""COCOB-Backprop, slow and readable: number by number in float64."""

import torch
from torch import Tensor


class SlowCOCOB:
    """Algorithm 2 of Orabona & Tommasi (arXiv 1705.07795) for one tensor.

    The options are those of `optim.COCOB`.

    Attributes:
        w: The weights as a flat list of numbers.

    Example:
        >>> twin = SlowCOCOB(torch.zeros(1), alpha=10)
        >>> twin.step(torch.tensor([2.0]))  # the first bet is 1 / alpha
        tensor([-0.1000], dtype=torch.float64)
    """

    def __init__(self, w: Tensor, alpha: float = 100, weight_decay: float = 0.0, maximize: bool = False) -> None:
        self.shape, self.alpha, self.weight_decay, self.sign = w.shape, alpha, weight_decay, -1 if maximize else 1
        self.w = w.detach().double().flatten().tolist()
        self.initial = list(self.w)
        # theta, G, L and the reward of the paper.
        self.theta, self.total, self.largest, self.reward = ([0.0] * len(self.w) for _ in range(4))

    def step(self, grad: Tensor) -> Tensor:
        """Take a step along a gradient in the shape of the weights; return the weights, in float64."""
        for i, slope in enumerate(grad.detach().double().flatten().tolist()):
            g = -(self.sign * slope + self.weight_decay * self.w[i])
            self.largest[i] = max(self.largest[i], abs(g))
            self.total[i] += abs(g)
            self.reward[i] = max(self.reward[i] + (self.w[i] - self.initial[i]) * g, 0)
            self.theta[i] += g
            if self.largest[i] > 0:
                limit = self.largest[i] * max(self.total[i] + self.largest[i], self.alpha * self.largest[i])
                self.w[i] = self.initial[i] + self.theta[i] / limit * (self.largest[i] + self.reward[i])
        return torch.tensor(self.w, dtype=torch.float64).reshape(self.shape)
