"""SAM and ASAM around momentum SGD, slow and readable: in float64."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def perturbation(weights: Sequence[Tensor], grads: Sequence[Tensor], rho: float, eta: float | None) -> list[Tensor]:
    """Return epsilon for weights w with gradients g: the step to the worst point, to first order; 0 if all g are 0.

    It is rho g / |g| for `eta=None` (arXiv 2010.01412, equation 2) and otherwise rho T² g / |T g| with T = |w| + eta
    (ASAM, arXiv 2102.11600).
    """
    scales = [torch.ones_like(w) if eta is None else w.abs() + eta for w in weights]
    norm = sum(((t * g) ** 2).sum().item() for t, g in zip(scales, grads, strict=True)) ** 0.5
    return [rho * t**2 * g / norm if norm > 0 else 0 * g for t, g in zip(scales, grads, strict=True)]


class SlowSAM:
    """Momentum SGD on `loss(weights)` with the gradient at the perturbed weights.

    The options are those of `optim.SAM` and `torch.optim.SGD`, except `eta`: see `perturbation`. `clip` is applied to
    the second gradients before the descent.

    Attributes:
        weights: The weights, in float64.

    Example:
        >>> twin = SlowSAM([torch.tensor([3.0])], lambda w: (w[0] ** 2).sum(), lr=0.1, momentum=0.0, rho=0.5)
        >>> twin.step()  # the loss at 3 and at 3.5
        (tensor(9., dtype=torch.float64), tensor(12.2500, dtype=torch.float64))
        >>> twin.weights  # 3 - 0.1 * 7
        [tensor([2.3000], dtype=torch.float64)]
    """

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
        """Return the loss at `weights` and its gradients."""
        leaves = [w.clone().requires_grad_() for w in weights]
        loss = self.loss(leaves)
        return loss.detach(), list(torch.autograd.grad(loss, leaves))

    def step(self) -> tuple[Tensor, Tensor]:
        """Take a step; return the losses at the weights before it and at the perturbed weights."""
        first, grads = self.gradient(self.weights)
        epsilon = perturbation(self.weights, grads, self.rho, self.eta)
        second, grads = self.gradient([w + e for w, e in zip(self.weights, epsilon, strict=True)])
        self.descend(self.clip(grads))
        return first, second

    def descend(self, grads: Sequence[Tensor]) -> None:
        """Take a step of momentum SGD along `grads`."""
        for i, g in enumerate(grads):
            self.buffers[i] = self.momentum * self.buffers[i] + g
            self.weights[i] = self.weights[i] - self.lr * self.buffers[i]
