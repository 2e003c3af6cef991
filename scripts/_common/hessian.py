"""The largest eigenvalue of a loss's Hessian, by power iteration on Hessian-vector products."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Eigenvalue(NamedTuple):
    """Result of power iteration."""

    value: float
    residual: float  # |H v - value v| for the last unit vector v; an eigenvalue is within this distance of the value
    history: list[float]  # the estimate after each iteration


def hessian_product(loss: Callable[[], Tensor], tensors: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the product of the loss's Hessian with a flat vector, as a function; the Hessian is never formed.

    Example:
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> hessian_product(lambda: w[0] ** 2 + 3 * w[0] * w[1], [w])(torch.tensor([1.0, 0.0]))
        tensor([2., 3.])
    """
    gradients = torch.autograd.grad(loss(), list(tensors), create_graph=True)
    flat = torch.cat([gradient.flatten() for gradient in gradients])

    def product(vector: Tensor) -> Tensor:
        parts = torch.autograd.grad(
            flat, list(tensors), vector, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([part.flatten() for part in parts])

    return product


def top_eigenvalue(
    loss: Callable[[], Tensor],
    tensors: Sequence[Tensor],
    iterations: int = 200,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Eigenvalue:
    """Return the largest eigenvalue of the Hessian (not the one of largest absolute value).

    Power iteration converges to the eigenvalue of largest absolute value. If that is negative, a second iteration, on
    the Hessian minus this value times the identity, converges to the largest. Each ends after `iterations` steps, or
    when the residual relative to the eigenvalue is at most `tolerance`; the seed is that of the initial vector.

    Example:
        >>> w = torch.zeros(2, requires_grad=True)
        >>> round(top_eigenvalue(lambda: 2 * w[0] ** 2 - 5 * w[1] ** 2, [w]).value, 3)
        4.0
    """
    product = hessian_product(loss, tensors)
    flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(flat.shape, generator=generator, dtype=torch.float64).to(flat)
    top = _iterate(product, start, 0.0, iterations, tolerance)
    return _iterate(product, start, top.value, iterations, tolerance) if top.value < 0 else top


def _iterate(
    product: Callable[[Tensor], Tensor], vector: Tensor, shift: float, iterations: int, tolerance: float
) -> Eigenvalue:
    """Run power iteration on `H - shift`, and return an eigenvalue of H."""
    history: list[float] = []
    vector = vector / vector.norm()
    value = residual = 0.0
    for _ in range(iterations):
        image = product(vector) - shift * vector
        value = float(vector @ image)
        residual = float((image - value * vector).norm())
        history.append(value + shift)
        length = image.norm()
        if residual <= tolerance * abs(value) or not length > 0:
            break
        vector = image / length
    return Eigenvalue(value + shift, residual, history)
