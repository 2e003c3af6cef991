"""LAMB, slow and readable: one tensor in float64."""

import torch
from torch import Tensor


class SlowLAMB:
    """Algorithm 2 of You et al. (arXiv 1904.00962) for one tensor.

    The options are those of `optim.LAMB`.

    Attributes:
        w: The weights, in float64.
        ratio: The last step's trust ratio, 1 where it does not apply.
        adapt: Whether weight decay and trust ratio apply to this tensor.

    Example:
        >>> twin = SlowLAMB(torch.ones(2, 2), lr=0.1, eps=0.0, weight_decay=3.0)
        >>> _ = twin.step(torch.ones(2, 2))
        >>> twin.ratio  # |w| = 2, |r + 3 w| = 8
        0.25
    """

    def __init__(
        self,
        w: Tensor,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        bias_correction: bool = True,
        norm_bounds: tuple[float, float] | None = None,
        exclude_1d: bool = True,
        maximize: bool = False,
    ) -> None:
        self.w = w.detach().double().clone()
        self.m, self.v, self.t = torch.zeros_like(self.w), torch.zeros_like(self.w), 0
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.bias_correction, self.norm_bounds = bias_correction, norm_bounds
        self.adapt, self.sign = w.ndim > 1 or not exclude_1d, -1 if maximize else 1
        self.ratio = 1.0

    def step(self, grad: Tensor) -> Tensor:
        """Take a step along a gradient in the shape of the weights; return the weights, in float64."""
        g = self.sign * grad.detach().double()
        beta1, beta2 = self.betas
        self.t += 1
        self.m = beta1 * self.m + (1 - beta1) * g
        self.v = beta2 * self.v + (1 - beta2) * g**2
        m_hat, v_hat = self.m, self.v
        if self.bias_correction:
            m_hat, v_hat = self.m / (1 - beta1**self.t), self.v / (1 - beta2**self.t)
        update = m_hat / (v_hat**0.5 + self.eps)
        self.ratio = 1.0
        if self.adapt:
            update = update + self.weight_decay * self.w
            w_norm, update_norm = (self.w**2).sum().item() ** 0.5, (update**2).sum().item() ** 0.5
            if w_norm > 0 and update_norm > 0:
                if self.norm_bounds is not None:
                    w_norm = min(max(w_norm, self.norm_bounds[0]), self.norm_bounds[1])
                self.ratio = w_norm / update_norm
        self.w = self.w - self.lr * self.ratio * update
        return self.w
