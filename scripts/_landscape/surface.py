"""A network's loss around its weights, along random directions that are scaled filter by filter.

Li, Xu, Taylor, Studer and Goldstein, `Visualizing the Loss Landscape of Neural Nets <https://arxiv.org/abs/1712.09913>`_
(2018): a random direction d is made comparable between networks by giving each of its filters the length that the
network's own filter has, ``d_ij <- d_ij |theta_ij| / |d_ij|``. A filter is what makes one output channel: of a
convolution's or affine layer's weight, one slice of the first dimension. Biases and the scales and shifts of
normalisation layers (all tensors of one dimension) are not moved, and running means and variances stay as they are.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Direction = list[Tensor]


def filter_normalized(weights: Sequence[Tensor], seed: int) -> Direction:
    """A random direction with the weights' filter norms.

    Args:
        weights: The network's parameters.
        seed: The same seed draws the same numbers, whatever the weights' values, device and dtype.

    Returns:
        A tensor for each parameter; zeros for parameters of fewer than two dimensions.

    >>> w = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    >>> filter_normalized([w, torch.ones(2)], seed=0)[0].norm(dim=1).tolist()
    [5.0, 0.0]
    """
    generator = torch.Generator().manual_seed(seed)
    direction = []
    for weight in weights:
        drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight)
        if weight.ndim < 2:
            direction.append(torch.zeros_like(weight))
            continue
        kept = (len(weight), *[1] * (weight.ndim - 1))
        norms = (tensor.detach().flatten(1).norm(dim=1) for tensor in (weight, drawn))
        own, random = norms
        direction.append(drawn * (own / random).view(kept))
    return direction


@contextmanager
def moved(weights: Sequence[Tensor]) -> Iterator[Callable[[Sequence[Direction], Sequence[float]], None]]:
    """Move weights about, and put them back as they were, to the bit.

    Yields:
        A function that sets the weights to where they were plus the sum of multiples of directions.
    """
    start = [weight.detach().clone() for weight in weights]

    @torch.no_grad()
    def move(directions: Sequence[Direction], multiples: Sequence[float]) -> None:
        for i, (weight, origin) in enumerate(zip(weights, start, strict=True)):
            weight.copy_(origin)
            for direction, multiple in zip(directions, multiples, strict=True):
                weight.add_(direction[i], alpha=multiple)

    try:
        yield move
    finally:
        with torch.no_grad():
            for weight, origin in zip(weights, start, strict=True):
                weight.copy_(origin)


@torch.no_grad()
def losses_along(
    model: nn.Module, loss: Callable[[], Tensor], directions: Sequence[Direction], multiples: Sequence[Sequence[float]]
) -> list[float]:
    """The loss at each of several points around a network's weights.

    Args:
        model: The network, which is evaluated as it is: in evaluation mode, normalisation uses its running statistics.
        loss: Computes its loss.
        directions: As `filter_normalized` makes them.
        multiples: For each point a multiple of each direction.

    Returns:
        The loss at each point; the weights are as before.
    """
    with moved(list(model.parameters())) as move:
        found = []
        for point in multiples:
            move(directions, point)
            found.append(loss().item())
        return found
