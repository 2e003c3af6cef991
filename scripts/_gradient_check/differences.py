"""Backpropagated gradients against central differences: what ``gradient_check.py`` does to one function."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

Loss = Callable[[], Tensor]


class Difference(NamedTuple):
    """How two gradients of a tensor differ.

    Attributes:
        coordinates: How many were compared.
        kinks: At how many of them the loss has a kink or a jump within the step, and so no one derivative.
        mean: Mean absolute difference at the others.
        largest: Largest absolute difference at the others.
        scale: Largest absolute value of the backpropagated gradient.
    """

    coordinates: int
    kinks: int
    mean: float
    largest: float
    scale: float


def compare(
    loss: Loss, tensors: Mapping[str, Tensor], step: float, tolerance: float, samples: int | None, seed: int = 0
) -> dict[str, Difference]:
    r"""Compare gradients, tensor by tensor.

    The central difference of coordinate w is :math:`(L(w + h) - L(w - h)) / 2h`. Where it is further from the
    backpropagated gradient than ``tolerance`` allows, more values of the loss, which know nothing of backpropagation,
    say whether the function is to blame: see `has_kink`.

    Args:
        loss: Computes the loss from the tensors, the same whenever it is called.
        tensors: float64 leaves that require a gradient. They are changed in place, and restored.
        step: h.
        tolerance: Largest difference that is looked at no closer, as a share of the largest backpropagated gradient.
        samples: Coordinates of each tensor; None is all.
        seed: Of the choice of coordinates.

    Returns:
        A difference for each tensor.

    >>> w = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    >>> found = compare(lambda: (w**3).sum(), {"w": w}, 1e-4, 1e-6, None)["w"]
    >>> found.coordinates, found.kinks, found.largest < 2e-8
    (2, 0, True)
    """
    gradients = torch.autograd.grad(loss(), list(tensors.values()), allow_unused=True, materialize_grads=True)
    generator = torch.Generator().manual_seed(seed)
    places = {name: choose(tensor.numel(), samples, generator) for name, tensor in tensors.items()}
    with torch.no_grad():
        centre = loss().item()
        exact = {name: g.flatten()[places[name]] for name, g in zip(tensors, gradients, strict=True)}
        central = {
            name: torch.tensor([slope(loss, tensor, i, step) for i in places[name].tolist()], dtype=torch.float64)
            for name, tensor in tensors.items()
        }
        scale = max(max_abs(values) for values in exact.values())  # a difference across a jump would be huge
        found = {}
        for name, tensor in tensors.items():
            gap = (exact[name] - central[name]).abs()
            # Not "gap > limit": a NaN must be looked at too.
            suspects = (~(gap <= tolerance * scale)).nonzero().flatten().tolist()
            kinks = [i for i in suspects if has_kink(loss, tensor, int(places[name][i]), step, centre, gap[i].item())]
            kept = torch.ones(len(gap), dtype=torch.bool)
            kept[kinks] = False
            mean = gap[kept].mean().item() if kept.any() else 0.0
            found[name] = Difference(len(gap), len(kinks), mean, max_abs(gap[kept]), max_abs(exact[name]))
    return found


def choose(total: int, samples: int | None, generator: torch.Generator) -> Tensor:
    """Indices of some coordinates, ascending, or of all."""
    if samples is None or samples >= total:
        return torch.arange(total)
    return torch.randperm(total, generator=generator)[:samples].sort().values


def max_abs(values: Tensor) -> float:
    """The largest absolute value; NaN if there is one, 0 of nothing."""
    return values.abs().max().item() if values.numel() else 0.0


def slope(loss: Loss, tensor: Tensor, index: int, step: float) -> float:
    """The central difference of one coordinate."""
    above, below = around(loss, tensor, index, step)
    return (above - below) / (2 * step)


def around(loss: Loss, tensor: Tensor, index: int, step: float) -> Iterator[float]:
    """The loss with one coordinate a step higher, and a step lower."""
    flat = tensor.detach().view(-1)
    start = flat[index].item()
    for moved in (start + step, start - step):
        flat[index] = moved
        value = loss().item()
        flat[index] = start
        yield value


def has_kink(loss: Loss, tensor: Tensor, index: int, step: float, centre: float, gap: float) -> bool:
    r"""Whether the loss has no derivative somewhere within the step, and that explains a gap.

    A smooth function has :math:`D(h) \approx D(h/2)` for its central differences and :math:`S(h) \approx 2 S(h/2)` for
    the change of slope :math:`S(h) = (L(w + h) - 2 L(w) + L(w - h)) / h`. With a jump of the slope at distance
    :math:`a < h`, one of the two fails by at least 0.4 times the error of D(h), whatever a is.

    Args:
        loss: The loss.
        tensor: Whose coordinate it is.
        index: Of the coordinate in the flat tensor.
        step: h.
        centre: The loss at w.
        gap: Between D(h) and the gradient.
    """
    (above, below), (above_half, below_half) = (tuple(around(loss, tensor, index, h)) for h in (step, step / 2))
    first = (above - below) / (2 * step) - (above_half - below_half) / step
    second = (above - 2 * centre + below) / step - 2 * (above_half - 2 * centre + below_half) / (step / 2)
    return max(abs(first), abs(second)) > gap / 4
