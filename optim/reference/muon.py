"""Muon, slow and readable: one tensor in float64."""

import torch
from torch import Tensor


class SlowMuon:
    """Algorithm 2 of Jordan (https://kellerjordan.github.io/posts/muon/) for one tensor, or AdamW's or SGD's for it.

    The options are those of `optim.Muon`; the singular values are moved by a decomposition and not by matrix products.

    Attributes:
        w: The weights, in float64.

    Example:
        >>> SlowMuon(torch.zeros(1, 2), lr=1.0, ns_coefficients=(1.5, -0.5, 0.0)).step(torch.tensor([[3.0, -4.0]]))
        tensor([[-0.6000,  0.8000]], dtype=torch.float64)
    """

    def __init__(
        self,
        w: Tensor,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        filter_norm: float | None = None,
        method: str = "auto",
        rest: str = "adamw",
        rest_lr_factor: float = 1.0,
        adamw_betas: tuple[float, float] = (0.9, 0.999),
        adamw_eps: float = 1e-8,
        ns_dtype: str = "float64",
        maximize: bool = False,
    ) -> None:
        self.w = w.detach().double().clone()
        self.b, self.m, self.v = (torch.zeros_like(self.w) for _ in range(3))
        self.t, self.sign = 0, -1 if maximize else 1
        self.method = ("muon" if w.ndim >= 2 else rest) if method == "auto" else method
        self.lr = lr if self.method == "muon" else lr * rest_lr_factor
        self.weight_decay, self.momentum, self.nesterov = weight_decay, momentum, nesterov
        self.ns_coefficients, self.ns_steps, self.adjust_lr_fn = ns_coefficients, ns_steps, adjust_lr_fn
        self.filter_norm, self.betas, self.eps = filter_norm, adamw_betas, adamw_eps

    def step(self, grad: Tensor) -> Tensor:
        """Take a step along a gradient in the shape of the weights; return the weights, in float64."""
        g = self.sign * grad.detach().double()
        self.t += 1
        self.w = {"muon": self._muon, "adamw": self._adamw, "sgd": self._sgd}[self.method](g)
        return self.w

    def _muon(self, g: Tensor) -> Tensor:
        self.b = self.momentum * self.b + (1 - self.momentum) * g
        u = self.momentum * self.b + (1 - self.momentum) * g if self.nesterov else self.b
        matrix = u.reshape(len(u), -1)
        rows, columns = matrix.shape
        w = self.w
        if self.filter_norm is not None:
            w = w * self.filter_norm * rows**0.5 / (w**2).sum() ** 0.5
        left, values, right = torch.linalg.svd(matrix / (matrix**2).sum() ** 0.5, full_matrices=False)
        a, b, c = self.ns_coefficients
        for _ in range(self.ns_steps):
            values = a * values + b * values**3 + c * values**5
        scale = {
            None: max(1, rows / columns) ** 0.5,
            "original": max(1, rows / columns) ** 0.5,
            "match_rms_adamw": 0.2 * max(rows, columns) ** 0.5,
            "spectral_unclamped": (rows / columns) ** 0.5,
        }[self.adjust_lr_fn]
        return (1 - self.lr * self.weight_decay) * w - self.lr * scale * (left * values @ right).reshape(w.shape)

    def _adamw(self, g: Tensor) -> Tensor:
        beta1, beta2 = self.betas
        self.m = beta1 * self.m + (1 - beta1) * g
        self.v = beta2 * self.v + (1 - beta2) * g**2
        m_hat, v_hat = self.m / (1 - beta1**self.t), self.v / (1 - beta2**self.t)
        return (1 - self.lr * self.weight_decay) * self.w - self.lr * m_hat / (v_hat**0.5 + self.eps)

    def _sgd(self, g: Tensor) -> Tensor:
        g = g + self.weight_decay * self.w
        self.b = self.momentum * self.b + g
        return self.w - self.lr * (g + self.momentum * self.b if self.nesterov else self.b)
