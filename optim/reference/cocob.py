"""COCOB-Backprop, slow and readable: one tensor in float64, number by number, after Algorithm 2 of arXiv 1705.07795."""

import torch
from torch import Tensor


class SlowCOCOB:
    """COCOB-Backprop of one tensor."""

    def __init__(self, w: Tensor, alpha: float = 100, weight_decay: float = 0.0, maximize: bool = False) -> None:
        self.shape, self.alpha, self.weight_decay, self.sign = w.shape, alpha, weight_decay, -1 if maximize else 1
        self.w = w.detach().double().flatten().tolist()
        self.first = list(self.w)
        self.theta, self.total, self.largest, self.reward = ([0.0] * len(self.w) for _ in range(4))

    def step(self, grad: Tensor) -> Tensor:
        """Return the weights after a step."""
        for i, slope in enumerate(grad.detach().double().flatten().tolist()):
            g = -(self.sign * slope + self.weight_decay * self.w[i])
            self.largest[i] = max(self.largest[i], abs(g))
            self.total[i] += abs(g)
            self.reward[i] = max(self.reward[i] + (self.w[i] - self.first[i]) * g, 0)
            self.theta[i] += g
            if self.largest[i] > 0:
                limit = self.largest[i] * max(self.total[i] + self.largest[i], self.alpha * self.largest[i])
                self.w[i] = self.first[i] + self.theta[i] / limit * (self.largest[i] + self.reward[i])
        return torch.tensor(self.w, dtype=torch.float64).reshape(self.shape)
