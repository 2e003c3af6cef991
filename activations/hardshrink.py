"""Hardshrink with two bounds."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from . import _elementwise
from ._check import check_floating


def _value(x: Tensor, bounds: Sequence[Any]) -> Tensor:
    lower, upper = bounds
    return torch.where((x >= lower) & (x <= upper), 0, x)


def _pull(grad: Tensor, x: Tensor, bounds: Sequence[Any]) -> Tensor:
    lower, upper = bounds
    return torch.where((x >= lower) & (x <= upper), 0, grad)


def _bend(grad: Tensor, x: Tensor, bounds: Sequence[Any]) -> Tensor:
    return torch.zeros_like(x)


_HARDSHRINK = _elementwise.Elementwise(_value, _pull, _bend, "hardshrink")


def hardshrink(x: Tensor, lower: float = -0.5, upper: float = 0.5) -> Tensor:
    """Set `x` to 0 where `lower <= x <= upper`; see `Hardshrink`."""
    if has_torch_function_unary(x):
        return handle_torch_function(hardshrink, (x,), x, lower=lower, upper=upper)
    check_floating(x, "hardshrink")
    _check_bounds(lower, upper)
    if torch.compiler.is_compiling():
        if x.dtype in (torch.float32, torch.float64):  # in which a compiler compares with numbers
            return _elementwise.apply(_HARDSHRINK, x, (lower, upper))
        return _elementwise.apply(_HARDSHRINK, x, torch.tensor([lower, upper], dtype=x.dtype, device=x.device))
    return _elementwise.apply(_HARDSHRINK, x, _rounded(float(lower), float(upper), x.dtype))


class Hardshrink(nn.Module):
    """Hardshrink with two bounds: 0 where `lower <= x <= upper`, `x` elsewhere, as TensorFlow Addons defines it.

    With the bounds `(-l, l)` it equals `torch.nn.Hardshrink(l)`, forward and backward: the gradient is 0 on the closed
    interval and 1 outside. NaN stays NaN.

    Args:
        lower: Lower bound, itself set to 0.
        upper: Upper bound, itself set to 0; not less than `lower`.

    Shape:
        Any shape; float16, bfloat16, float32 or float64, the type in which the bounds are compared. The output has
        the shape, dtype and memory format of the input.

    Raises:
        ValueError: If `lower > upper` or one is NaN, or the input is a complex or an integer tensor.

    Example:
        >>> import torch
        >>> Hardshrink(lower=-0.75)(torch.tensor([-1.0, -0.5, 0.5, 2.0]))
        tensor([-1.,  0.,  0.,  2.])
    """

    def __init__(self, lower: float = -0.5, upper: float = 0.5) -> None:
        super().__init__()
        _check_bounds(lower, upper)
        self.lower = float(lower)
        self.upper = float(upper)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the function to each element of `input`."""
        return hardshrink(input, self.lower, self.upper)

    def extra_repr(self) -> str:
        """Return the bounds, as the constructor takes them."""
        return f"lower={self.lower}, upper={self.upper}"


def _check_bounds(lower: float, upper: float) -> None:
    if not lower <= upper:
        raise ValueError(f"lower must not be greater than upper, found lower={lower} and upper={upper}")


@functools.lru_cache(maxsize=256)
def _rounded(lower: float, upper: float, dtype: torch.dtype) -> tuple[float, float]:
    """Return the bounds rounded to the dtype of the input, in which torch compares them."""
    low, high = torch.tensor([lower, upper], dtype=torch.float64).to(dtype).tolist()
    return low, high
