"""A network's loss around its weights, along random filter-normalised directions.

Li, Xu, Taylor, Studer and Goldstein, `Visualizing the Loss Landscape of Neural Nets <https://arxiv.org/abs/1712.09913>`_
(2018): a random direction d is made comparable between networks by giving each of its filters the norm of the network's
own filter, `d_ij <- d_ij |theta_ij| / |d_ij|`. A filter produces one output channel: it is one slice along the first
dimension of a convolutional or affine weight. Biases and the scales and shifts of normalisation layers (all tensors of
one dimension) are not moved, and running means and variances stay as they are.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Direction = list[Tensor]


def filter_normalized(weights: Sequence[Tensor], seed: int) -> Direction:
    """Return a random direction with the weights' filter norms, zero for weights of fewer than two dimensions.

    The seed determines the random numbers, whatever the weights' values, device and dtype.

    Example:
        >>> w = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
        >>> filter_normalized([w, torch.ones(2)], seed=0)[0].norm(dim=1).tolist()
        [5.0, 0.0]
    """
    generator = torch.Generator().manual_seed(seed)
    direction = []
    for weight in weights:
        random = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight)
        if weight.ndim < 2:
            direction.append(torch.zeros_like(weight))
            continue
        own_norm, random_norm = (tensor.detach().flatten(1).norm(dim=1) for tensor in (weight, random))
        direction.append(random * (own_norm / random_norm).view(-1, *[1] * (weight.ndim - 1)))
    return direction


@torch.no_grad()
def losses_along(
    model: nn.Module, loss: Callable[[], Tensor], directions: Sequence[Direction], multiples: Sequence[Sequence[float]]
) -> list[float]:
    """Return the loss at several points around a network's weights, which are restored bit for bit.

    A point holds one multiple per direction. `loss` computes the loss of `model`, whose mode is left unchanged.
    """
    weights = list(model.parameters())
    centre = [weight.clone() for weight in weights]
    losses = []
    try:
        for point in multiples:
            for i, (weight, origin) in enumerate(zip(weights, centre, strict=True)):
                weight.copy_(origin)
                for direction, multiple in zip(directions, point, strict=True):
                    weight.add_(direction[i], alpha=multiple)
            losses.append(loss().item())
    finally:
        for weight, origin in zip(weights, centre, strict=True):
            weight.copy_(origin)
    return losses
