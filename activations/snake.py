"""Snake, an activation for periodic functions."""

import math

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from ._check import check_floating


def snake(x: Tensor, frequency: float = 1.0) -> Tensor:
    """Compute `x + sin(f x)^2 / f` for a `frequency` f; see `Snake`."""
    if has_torch_function_unary(x):
        return handle_torch_function(snake, (x,), x, frequency=frequency)
    check_floating(x, "snake")
    _check_frequency(frequency)
    return x + torch.sin(frequency * x).square() / frequency


class Snake(nn.Module):
    """Snake, `x + (1 - cos(2 f x)) / (2 f) = x + sin(f x)^2 / f`, monotone with a periodic part.

    Paper: Ziyin et al. 2020, https://arxiv.org/abs/2006.08195.

    Args:
        frequency: `f`, not 0.

    Shape:
        Any floating-point tensor; the output has its shape and dtype.

    Raises:
        ValueError: If the frequency is 0 or not finite, or the input is a complex or an integer tensor.

    Example:
        >>> import torch
        >>> Snake(frequency=2.0)(torch.tensor([-1.0, 0.0, 1.0]))
        tensor([-0.5866,  0.0000,  1.4134])
    """

    def __init__(self, frequency: float = 1.0) -> None:
        super().__init__()
        _check_frequency(frequency)
        self.frequency = float(frequency)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the function to each element of `input`."""
        return snake(input, self.frequency)

    def extra_repr(self) -> str:
        """Return the frequency, as the constructor takes it."""
        return f"frequency={self.frequency}"


def _check_frequency(frequency: float) -> None:
    if frequency == 0 or not math.isfinite(frequency):
        raise ValueError(f"frequency must be finite and not 0, found {frequency}")
