"""Backpropagated gradients against central differences, for one function."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Loss = Callable[[], Tensor]


class Difference(NamedTuple):
    """Difference between the two gradients of a tensor."""

    coordinates: int  # number of coordinates compared
    kinks: int  # number of them where the loss has a kink or a jump within the step, and so no single derivative
    mean: float  # mean absolute difference at the others
    largest: float  # largest absolute difference at the others
    scale: float  # largest absolute value of the backpropagated gradient
    worst: int = 0  # coordinate of the largest difference, in the flattened tensor
    analytic: float = 0.0  # backpropagated gradient there
    numeric: float = 0.0  # central difference there


def compare(
    loss: Loss,
    tensors: Mapping[str, Tensor],
    step: float,
    tolerance: float,
    samples: int | None,
    seed: int = 0,
    rounding: float = 0.0,
) -> dict[str, Difference]:
    r"""Compare gradients; return a difference for each tensor.

    The central difference of coordinate w is :math:`(L(w + h) - L(w - h)) / 2h`. Where it differs from the
    backpropagated gradient by more than the tolerance, further values of the loss, which are independent of
    backpropagation, decide whether the loss has a kink there: see `has_kink`.

    Args:
        loss: Computes the loss from the tensors; every call must return the same value.
        tensors: float64 or complex128 leaves that require a gradient. They are changed in place and restored. Each part
            of a complex number is a coordinate.
        step: Step h.
        tolerance: Largest difference accepted without further checks, relative to the largest gradient.
        samples: Number of coordinates of each tensor; None compares all.
        seed: Seed of the choice of coordinates.
        rounding: Largest absolute difference accepted in addition.

    Example:
        >>> w = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
        >>> difference = compare(lambda: (w**3).sum(), {"w": w}, 1e-4, 1e-6, None)["w"]
        >>> difference.coordinates, difference.kinks, difference.largest < 2e-8
        (2, 0, True)
    """
    gradients = gradients_of(loss(), list(tensors.values()))
    generator = torch.Generator().manual_seed(seed)
    indices = {name: choose(as_real(tensor).numel(), samples, generator) for name, tensor in tensors.items()}
    exact = {name: as_real(g).flatten()[indices[name]] for name, g in zip(tensors, gradients, strict=True)}
    scale = max(max_abs(g) for g in exact.values())
    differences = {}
    with torch.no_grad():
        centre = loss().item()
        for name, tensor in tensors.items():
            places = indices[name].tolist()
            slopes = torch.tensor([central_difference(loss, tensor, i, step) for i in places], dtype=torch.float64)
            gap = (exact[name] - slopes).abs()
            # Not "gap > limit", which would accept NaN.
            suspects = (~(gap <= tolerance * scale + rounding)).nonzero().flatten().tolist()
            kinks = [i for i in suspects if has_kink(loss, tensor, int(indices[name][i]), step, centre, gap[i].item())]
            kept = torch.ones(len(gap), dtype=torch.bool)
            kept[kinks] = False
            mean = gap[kept].mean().item() if kept.any() else 0.0
            worst = int(gap.nan_to_num(torch.inf).masked_fill(~kept, -1).argmax())
            there = places[worst], exact[name][worst].item(), slopes[worst].item()
            differences[name] = Difference(len(gap), len(kinks), mean, max_abs(gap[kept]), max_abs(exact[name]), *there)
    return differences


def gradients_of(loss: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    """Return the backpropagated gradients; zeros for tensors that the loss's graph does not contain."""
    if not loss.requires_grad:
        return [torch.zeros_like(one) for one in tensors]
    return list(torch.autograd.grad(loss, tensors, allow_unused=True, materialize_grads=True))


def as_real(tensor: Tensor) -> Tensor:
    """Return a tensor without its graph, a complex one as real `[..., 2]` with the same memory."""
    detached = tensor.detach()
    return torch.view_as_real(detached.resolve_conj()) if detached.is_complex() else detached


def choose(total: int, samples: int | None, generator: torch.Generator) -> Tensor:
    """Return the indices of some coordinates, ascending, or of all."""
    if samples is None or samples >= total:
        return torch.arange(total)
    return torch.randperm(total, generator=generator)[:samples].sort().values


def max_abs(values: Tensor) -> float:
    """Return the largest absolute value; NaN if there is one, 0 for an empty tensor."""
    return values.abs().max().item() if values.numel() else 0.0


def central_difference(loss: Loss, tensor: Tensor, index: int, step: float) -> float:
    """Return the central difference of one coordinate."""
    above, below = losses_around(loss, tensor, index, step)
    return (above - below) / (2 * step)


def losses_around(loss: Loss, tensor: Tensor, index: int, step: float) -> tuple[float, float]:
    """Return the loss with one coordinate moved up by a step, and down by a step."""
    real = as_real(tensor)
    place = np.unravel_index(index, real.shape)  # a transposed tensor has no flat view
    start = real[place].item()
    values = []
    for moved in (start + step, start - step):
        real[place] = moved
        values.append(loss().item())
    real[place] = start
    return values[0], values[1]


def has_kink(loss: Loss, tensor: Tensor, index: int, step: float, centre: float, gap: float) -> bool:
    r"""Return whether the loss has no derivative somewhere within the step, and this explains a gap.

    A smooth function has :math:`D(h) \approx D(h/2)` for its central differences and :math:`S(h) \approx 2 S(h/2)` for
    the change of slope :math:`S(h) = (L(w + h) - 2 L(w) + L(w - h)) / h`. If the slope jumps at a distance
    :math:`a < h`, one of the two fails by at least 0.4 times the error of D(h), for every a. The error is at most
    `gap`, the difference between D(h) and the gradient; `centre` is L(w).
    """
    (above, below), (above_half, below_half) = (losses_around(loss, tensor, index, h) for h in (step, step / 2))
    first = (above - below) / (2 * step) - (above_half - below_half) / step
    second = (above - 2 * centre + below) / step - 2 * (above_half - 2 * centre + below_half) / (step / 2)
    return max(abs(first), abs(second)) > gap / 4
