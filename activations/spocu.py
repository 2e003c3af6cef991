"""SPOCU, the scaled polynomial constant unit."""

import functools
import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

from . import _elementwise, _polynomial
from ._check import check_floating


def spocu(
    x: Tensor,
    alpha: float | Tensor = 3.0937,
    beta: float | Tensor = 0.6653,
    gamma: float | Tensor = 4.437,
    c: float = math.inf,
) -> Tensor:
    """Compute `alpha h(x / gamma + beta) - alpha h(beta)`; see `SPOCU`.

    `alpha`, `beta` and `gamma` may be tensors, 0-d or `[1]`, which receive gradients and are not checked for range.

    Example:
        >>> import torch
        >>> spocu(torch.tensor([-10.0, 0.0, 1.0]), c=1.0)
        tensor([-1.5838,  0.0000,  1.2620])
    """
    tensors = (x, alpha, beta, gamma)
    if has_torch_function(tensors):
        return handle_torch_function(spocu, tensors, x, alpha=alpha, beta=beta, gamma=gamma, c=c)
    check_floating(x, "spocu")
    if x.dtype == torch.float16 and c == math.inf and not torch.compiler.is_compiling():
        _warn_float16()
    _check_parameters(alpha, beta, gamma, c)
    alpha, beta, gamma = _number(alpha), _number(beta), _number(gamma)
    if isinstance(alpha, Tensor) or isinstance(beta, Tensor) or isinstance(gamma, Tensor):
        return _polynomial.trained(x, alpha, beta, gamma, c)
    return _elementwise.apply(
        _polynomial.FIXED, x, _polynomial.coefficients(float(alpha), float(beta), float(gamma), c)
    )


class SPOCU(nn.Module):
    r"""Scaled polynomial constant unit (Kiseľák et al. 2020).

    See `the paper <https://doi.org/10.1007/s00521-020-05182-1>`_ with
    `its erratum <https://doi.org/10.1007/s00521-020-05412-6>`_.

    .. math::
        s(x) = \alpha\, h(x / \gamma + \beta) - \alpha\, h(\beta), \qquad r(z) = z^3 (z^5 - 2 z^4 + 2)

    with `h(z) = 0` for `z < 0`, `r(z)` for `0 <= z < c` and `r(c)` for `z >= c`.

    Before using it, note:

    - With `c = inf` it is not monotone: it rises up to `x = gamma (1 - beta)` (1.49 for the defaults), falls to
      negative values beyond, and then grows like `x^8`. `c = 1` gives a bounded, monotone function.
    - With `c = inf` it overflows float16 beyond about 13.9 (a RuntimeWarning, once); use a finite `c`, bfloat16 or
      float32.
    - It is computed in float32 at least. Its error is a few roundings of the largest term of its Taylor series around
      0: near 0 a relative error of 2e-6 in float32 and 1e-13 in float64.

    Args:
        alpha: Output scale, > 0.
        beta: Offset of the origin on the polynomial, in (0, 1).
        gamma: Input scale, > 0.
        c: Cut-off, at least 1: the function is constant beyond `x = gamma (c - beta)`.
        trainable: Make alpha, beta and gamma (not c) parameters `[1]`, one of each for the module. Training may move
            them out of their ranges.

    Shape:
        Any shape; float16, bfloat16, float32 or float64. The output has the shape, dtype and memory format of
        the input.

    Raises:
        ValueError: If a parameter is out of its range, or the input is a complex or an integer tensor.

    Example:
        >>> import torch
        >>> SPOCU(c=1.0)(torch.tensor([-10.0, 0.0, 1.0]))
        tensor([-1.5838,  0.0000,  1.2620])
        >>> [name for name, _ in SPOCU(trainable=True).named_parameters()]
        ['alpha', 'beta', 'gamma']
    """

    alpha: float | Tensor
    beta: float | Tensor
    gamma: float | Tensor

    def __init__(
        self,
        alpha: float = 3.0937,
        beta: float = 0.6653,
        gamma: float = 4.437,
        c: float = math.inf,
        trainable: bool = False,
    ) -> None:
        super().__init__()
        _check_parameters(alpha, beta, gamma, c)
        self.trainable = trainable
        self.c = float(c)
        for name, number in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
            held: Any = nn.Parameter(torch.tensor([float(number)])) if trainable else float(number)
            setattr(self, name, held)
        if trainable:
            self.register_load_state_dict_pre_hook(_with_one_dimension)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the function to each element of `input`."""
        return spocu(input, self.alpha, self.beta, self.gamma, self.c)

    def extra_repr(self) -> str:
        """Return the parameters, as the constructor takes them."""
        held = {name: getattr(self, name) for name in ("alpha", "beta", "gamma", "c")}
        numbers = ", ".join(f"{k}={v.item() if isinstance(v, Tensor) else v:.6g}" for k, v in held.items())
        return f"{numbers}, trainable=True" if self.trainable else numbers


def _number(held: float | Tensor) -> float | Tensor:
    return held.squeeze(0) if isinstance(held, Tensor) else held


def _with_one_dimension(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Read the 0-d parameters of older checkpoints; FSDP2 shards parameters that have a dimension only."""
    for name in ("alpha", "beta", "gamma"):
        if isinstance(held := state.get(prefix + name), Tensor) and held.dim() == 0:
            state[prefix + name] = held[None]


def _check_parameters(alpha: float | Tensor, beta: float | Tensor, gamma: float | Tensor, c: float) -> None:
    """Refuse numbers out of range; tensors pass, since reading them would wait for the device."""
    for name, number in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        if isinstance(number, Tensor) and list(number.shape) not in ([], [1]):
            raise ValueError(f"{name} must be a number or a tensor, 0-d or [1], found shape {list(number.shape)}")
    for name, number in (("alpha", alpha), ("gamma", gamma)):
        if not isinstance(number, Tensor) and not 0 < number < math.inf:
            raise ValueError(f"{name} must be positive and finite, found {number}")
    if not isinstance(beta, Tensor) and not 0 < beta < 1:
        raise ValueError(f"beta must be between 0 and 1, both excluded, found {beta}")
    if not c >= 1:
        raise ValueError(f"c must be at least 1 (math.inf for no cut), found {c}")


@functools.cache
def _warn_float16() -> None:
    warnings.warn(
        "SPOCU without a finite c overflows float16 for inputs beyond about 13.9: give c, or use bfloat16 or float32",
        RuntimeWarning,
        stacklevel=4,
    )
