"""SAM and ASAM around plain gradient descent, slow and readable, in float64: arXiv 2010.01412 and 2102.11600."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def perturbation(weights: Sequence[Tensor], grads: Sequence[Tensor], rho: float, eta: float | None) -> list[Tensor]:
    """The worst point within rho: of SAM (`eta=None`), or of ASAM."""
    scales = [torch.ones_like(w) if eta is None else w.abs() + eta for w in weights]
    norm = sum(((t * g) ** 2).sum().item() for t, g in zip(scales, grads, strict=True)) ** 0.5
    return [rho * t**2 * g / norm if norm > 0 else 0 * g for t, g in zip(scales, grads, strict=True)]


class SlowSAM:
    """Momentum SGD on `loss(weights)` with SAM's gradient."""

    def __init__(
        self,
        weights: Sequence[Tensor],
        loss: Callable[[Sequence[Tensor]], Tensor],
        lr: float,
        momentum: float = 0.9,
        rho: float = 0.05,
        eta: float | None = None,
        clip: Callable[[list[Tensor]], list[Tensor]] = list,
    ) -> None:
        self.weights = [w.detach().double().clone() for w in weights]
        self.buffers = [torch.zeros_like(w) for w in self.weights]
        self.loss, self.lr, self.momentum, self.rho, self.eta = loss, lr, momentum, rho, eta
        self.clip = clip

    def gradient(self, weights: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the loss and its gradients."""
        leaves = [w.clone().requires_grad_() for w in weights]
        loss = self.loss(leaves)
        return loss.detach(), list(torch.autograd.grad(loss, leaves))

    def step(self) -> tuple[Tensor, Tensor]:
        """Returns the loss at the weights and the loss at the perturbed weights."""
        first, grads = self.gradient(self.weights)
        epsilon = perturbation(self.weights, grads, self.rho, self.eta)
        second, grads = self.gradient([w + e for w, e in zip(self.weights, epsilon, strict=True)])
        self.descend(self.clip(grads))
        return first, second

    def descend(self, grads: Sequence[Tensor]) -> None:
        """Take a step of momentum SGD."""
        for i, g in enumerate(grads):
            self.buffers[i] = self.momentum * self.buffers[i] + g
            self.weights[i] = self.weights[i] - self.lr * self.buffers[i]
