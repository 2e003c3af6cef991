"""LiSHT, the linearly scaled hyperbolic tangent."""

from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from ._check import check_floating


def lisht(x: Tensor) -> Tensor:
    """Compute `x tanh(x)`; see `LiSHT`."""
    if has_torch_function_unary(x):
        return handle_torch_function(lisht, (x,), x)
    check_floating(x, "lisht")
    return x * x.tanh()


class LiSHT(nn.Module):
    """Linearly scaled hyperbolic tangent, `x tanh(x)` (Roy et al. 2019, https://arxiv.org/abs/1901.05894).

    Shape:
        Any floating-point tensor; the output has its shape and dtype.

    Raises:
        ValueError: If the input is a complex or an integer tensor.

    Example:
        >>> import torch
        >>> LiSHT()(torch.tensor([-1.0, 0.0, 1.0]))
        tensor([0.7616, 0.0000, 0.7616])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Apply the function to each element of `input`."""
        return lisht(input)
