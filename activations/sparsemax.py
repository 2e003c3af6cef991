"""Sparsemax, the softmax with exact zeros."""

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from ._check import check_floating


def sparsemax(x: Tensor, dim: int = -1) -> Tensor:
    """Project `x` along `dim` onto the probability simplex; see `Sparsemax`."""
    if has_torch_function_unary(x):
        return handle_torch_function(sparsemax, (x,), x, dim=dim)
    check_floating(x, "sparsemax")
    if x.numel() == 0:
        return x.clone()
    rows = x.unsqueeze(0) if x.dim() == 0 else x.movedim(dim, -1)
    # In float32 at least: a sum of many half-precision values is too coarse for the threshold.
    z = rows.to(torch.promote_types(x.dtype, torch.float32))
    z = z - z.amax(-1, keepdim=True).detach()
    ordered = z.sort(dim=-1, descending=True).values
    counts = torch.arange(1, z.shape[-1] + 1, dtype=z.dtype, device=z.device)
    sums = ordered.cumsum(-1)
    # The support is a prefix of the sorted values (section 2.2, algorithm 1).
    support = (1 + counts * ordered > sums).sum(-1, keepdim=True)
    threshold = (sums.gather(-1, (support - 1).clamp(min=0)) - 1) / support
    result = (z - threshold).clamp(min=0).to(x.dtype)
    return result.squeeze(0) if x.dim() == 0 else result.movedim(-1, dim)


class Sparsemax(nn.Module):
    """Sparsemax, `max(x - tau(x), 0)`: the Euclidean projection onto the probability simplex.

    Paper: Martins and Astudillo 2016, https://arxiv.org/abs/1602.02068.

    Args:
        dim: Dimension along which the result sums to 1.

    Shape:
        Any floating-point tensor (a 0-d tensor counts as one of a single element); the output has its shape and dtype.
        It is NaN along `dim` where a value there is NaN or +inf, or all are -inf.

    Raises:
        ValueError: If the input is a complex or an integer tensor.

    Example:
        >>> import torch
        >>> Sparsemax()(torch.tensor([0.5, 0.25, -1.0]))
        tensor([0.6250, 0.3750, 0.0000])
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Project `input` along `dim`."""
        return sparsemax(input, self.dim)

    def extra_repr(self) -> str:
        """Return the dimension, as the constructor takes it."""
        return f"dim={self.dim}"
