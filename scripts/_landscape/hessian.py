"""The largest eigenvalue of a loss's Hessian, by power iteration on products of the Hessian with a vector."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Eigenvalue(NamedTuple):
    """What power iteration found.

    Attributes:
        value: The eigenvalue.
        residual: ``|H v - value v|`` for the unit vector v that it ended with; an eigenvalue lies within it.
        history: The estimate after each iteration.
    """

    value: float
    residual: float
    history: list[float]


def hessian_product(loss: Callable[[], Tensor], tensors: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    """The product of the loss's Hessian with a flat vector, by differentiating twice; the Hessian is never formed.

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> hessian_product(lambda: w[0] ** 2 + 3 * w[0] * w[1], [w])(torch.tensor([1.0, 0.0]))
    tensor([2., 3.])
    """
    gradients = torch.autograd.grad(loss(), list(tensors), create_graph=True)
    flat = torch.cat([gradient.flatten() for gradient in gradients])

    def product(vector: Tensor) -> Tensor:
        found = torch.autograd.grad(
            flat, list(tensors), vector, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([part.flatten() for part in found])

    return product


def top_eigenvalue(
    loss: Callable[[], Tensor],
    tensors: Sequence[Tensor],
    iterations: int = 200,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Eigenvalue:
    """The largest eigenvalue of the Hessian (not the one of largest absolute value).

    Power iteration goes to the eigenvalue of largest absolute value. Where that is negative, a second iteration, on the
    Hessian less this value times the identity, goes to the largest.

    Args:
        loss: Computes the loss.
        tensors: What it is differentiated by.
        iterations: The largest number of products, in each of the two.
        tolerance: It ends once the residual is below this share of the eigenvalue.
        seed: Of the vector that it starts from.

    >>> w = torch.zeros(2, requires_grad=True)
    >>> found = top_eigenvalue(lambda: 2 * w[0] ** 2 - 5 * w[1] ** 2, [w])
    >>> round(found.value, 3)
    4.0
    """
    if not any(tensor.requires_grad for tensor in tensors):
        raise ValueError("none of the tensors requires a gradient: there is nothing to differentiate by")
    product = hessian_product(loss, tensors)
    start = torch.cat([tensor.detach().flatten() for tensor in tensors])
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(start.shape, generator=generator, dtype=torch.float64).to(start)
    found = _iterate(product, start, 0.0, iterations, tolerance)
    if found.value < 0:
        found = _iterate(product, start, found.value, iterations, tolerance)
    return found


def _iterate(
    product: Callable[[Tensor], Tensor], vector: Tensor, shift: float, iterations: int, tolerance: float
) -> Eigenvalue:
    """Power iteration on ``H - shift``; what it returns is an eigenvalue of H."""
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
