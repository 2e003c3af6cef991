"""Integrated gradients: the contribution of each input value to a network's score.

Sundararajan, Taly, Yan, "Axiomatic attribution for deep networks" (ICML 2017).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ..checks import Array, as_tensor, check_counts
from .network import Network, eval_mode
from .several_inputs import Packed, is_several

Values = TypeVar("Values", Tensor, tuple[Tensor, ...])


@dataclass(frozen=True)
class Attribution(Generic[Values]):
    """The result of `integrated_gradients`, on the CPU and in float64.

    Attributes:
        values: `[N, ...]` contributions, in the shape of the inputs; a tuple for a tuple of inputs.
        score: `[N]` the score F(x) that is explained.
        baseline_score: `[N]` the score F(b) of the baseline.
        difference: `[N]` the error of completeness: the sum of the contributions minus (F(x) - F(b)).
        steps: `[N]` number of points on the path that were needed, or the maximum.
        dtype: The dtype of the scores before their conversion to float64.
    """

    values: Values
    score: Tensor
    baseline_score: Tensor
    difference: Tensor
    steps: Tensor
    dtype: torch.dtype

    def complete(self, tolerance: float = 1e-3) -> Tensor:
        """Return bool `[N]`: whether the difference is within the tolerance, relative to F(x) - F(b)."""
        scale = torch.maximum(self.score.abs(), self.baseline_score.abs())
        rounding = 4 * torch.finfo(self.dtype).eps * scale  # of scores of this size
        return self.difference.abs() <= tolerance * (self.score - self.baseline_score).abs() + rounding


def integrated_gradients(
    model: nn.Module,
    inputs: Any,
    target: Array | None = None,
    *,
    baseline: Any = 0.0,
    steps: int = 16,
    max_steps: int = 4096,
    tolerance: float = 1e-3,
    batch_size: int = 64,
    fixed: Sequence[Any] = (),
) -> Attribution[Any]:
    """Attribute a score F of a network to the values of its input.

        values_i = (x_i - b_i) * integral over a in [0, 1] of dF/dx_i (b + a (x - b))

    They sum to F(x) - F(b). The integral is approximated by the midpoint rule; the number of points is doubled until
    the sum differs from F(x) - F(b) by at most `tolerance`, relative to it, or by the rounding of the two scores. The
    network is left unchanged, see `evaluation.explanation.network.eval_mode`.

    Args:
        model: Maps `[N, ...]` to scores `[N, K]` or `[N]`, each example independently.
        inputs: `[N, ...]` examples; a tuple of tensors for a network of several inputs, which move along the path
            together.
        target: Index of the score, one for all examples or one for each `[N]`; None: the highest of each example.
        baseline: Start of the path: a number, or an example (`[...]` or `[N, ...]`); a tuple of these for a tuple.
        steps: Initial number of points on the path.
        max_steps: Maximum number of points on the path.
        tolerance: Relative error of the sum at which to stop.
        batch_size: Number of points evaluated at once.
        fixed: Further arguments of the network, to which nothing is attributed: tensors `[N, ...]`, or anything else.

    Raises:
        ValueError: If an argument has a bad value, or the score does not depend differentiably on the input.

    Example:
        >>> net = nn.Linear(2, 1, bias=False)
        >>> _ = net.weight.data.copy_(torch.tensor([[2.0, -1.0]]))
        >>> integrated_gradients(net, [[3.0, 4.0]]).values
        tensor([[ 6., -4.]], dtype=torch.float64)
    """
    check_counts(steps=steps, max_steps=max_steps, batch_size=batch_size)
    if steps > max_steps:
        raise ValueError(f"steps must be at most max_steps, {max_steps}, found {steps}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, found {tolerance!r}")
    if is_several(inputs) or fixed:
        several = inputs if is_several(inputs) else (as_tensor(inputs),)
        packed = Packed(model, several, fixed)
        options: dict[str, Any] = {
            "steps": steps,
            "max_steps": max_steps,
            "tolerance": tolerance,
            "batch_size": batch_size,
        }
        found = integrated_gradients(packed, packed.row, target, baseline=packed.baseline(baseline), **options)
        parts = tuple(packed.parts(found.values)[: len(several)])
        return replace(found, values=parts if is_several(inputs) else parts[0])
    with eval_mode(model) as network:
        points = network.place(inputs)
        if points.ndim < 2 or points.numel() == 0:
            raise ValueError(f"inputs must be examples [N, ...], found shape {list(points.shape)}")
        start = _baseline(network, baseline, points)
        with torch.no_grad():
            scores, origins = (network.scores(values).cpu().double() for values in (points, start))
        if not bool(scores.isfinite().all() and origins.isfinite().all()):
            raise ValueError("the network's scores must be finite, found NaN or inf for the input or the baseline")
        which = target_indices(scores, target)
        results = []
        for row, index in enumerate(which.tolist()):
            contributions = partial(_contributions, network, start[row], points[row], index, batch_size)
            ends = scores[row, index], origins[row, index]
            results.append(_converge(contributions, *ends, network.dtype, steps, max_steps, tolerance))
    values, score, origin, difference, needed = (torch.stack(parts) for parts in zip(*results, strict=True))
    return Attribution(values, score, origin, difference, needed, network.dtype)


def target_indices(scores: Tensor, target: Array | None) -> Tensor:
    """Return the index `[N]` of the score to explain in `scores` `[N, K]`, or raise a ValueError."""
    if target is None:
        return scores.argmax(dim=1)
    which = torch.as_tensor(target, device=scores.device)
    if which.is_floating_point() or which.dtype == torch.bool or which.shape not in ((), scores.shape[:1]):
        raise ValueError(f"target must be an integer, or one for each of the {len(scores)} examples, found {target!r}")
    which = which.long().expand(len(scores))
    if int(which.min()) < 0 or int(which.max()) >= scores.shape[1]:
        wrong = which[(which < 0) | (which >= scores.shape[1])][0]
        raise ValueError(f"target must be in 0..{scores.shape[1] - 1}, found {int(wrong)}")
    return which


def _baseline(network: Network, baseline: Array, points: Tensor) -> Tensor:
    start = network.place(baseline)
    if start.shape not in ((), points.shape[1:], points.shape, (1, *points.shape[1:])):
        wanted = f"a number or of shape {list(points.shape[1:])}"
        raise ValueError(f"baseline must be {wanted}, like the input, found {list(start.shape)}")
    return start.expand(points.shape).clone()


def _contributions(network: Network, start: Tensor, end: Tensor, index: int, batch_size: int, steps: int) -> Tensor:
    """Return the midpoint rule with this many points on the line from start to end, summed in float64."""
    direction = end - start
    positions = ((torch.arange(steps, dtype=torch.float64) + 0.5) / steps).to(direction)
    total = torch.zeros(direction.shape, dtype=torch.float64)
    for part in positions.split(batch_size):
        points = start + part.view(-1, *[1] * direction.ndim) * direction
        points.requires_grad_()
        score = network.scores(points)[:, index].sum()
        gradient = torch.autograd.grad(score, points, allow_unused=True)[0] if score.requires_grad else None
        if gradient is None:
            raise ValueError("the network's score does not depend differentiably on its input: the graph is detached")
        total += gradient.sum(dim=0).double().cpu()
    return direction.double().cpu() * total / steps


def _converge(
    contributions: Callable[[int], Tensor],
    score: Tensor,
    origin: Tensor,
    dtype: torch.dtype,
    steps: int,
    max_steps: int,
    tolerance: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    while True:
        values = contributions(steps)
        difference = values.sum() - (score - origin)
        result = values, score, origin, difference, torch.tensor(steps)
        if bool(Attribution(*result, dtype).complete(tolerance)) or steps == max_steps:
            return result
        steps = min(2 * steps, max_steps)
