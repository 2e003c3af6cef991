"""Integrated gradients: how much each value of an input adds to a network's score.

Sundararajan, Taly, Yan, "Axiomatic attribution for deep networks" (ICML 2017).
"""

from dataclasses import dataclass

import numpy.typing as npt
import torch
from torch import Tensor, nn

from .network import Network, undisturbed


@dataclass(frozen=True)
class Attribution:
    """What :func:`integrated_gradients` returns, on the CPU and in float64.

    Attributes:
        values: ``[N, ...]`` contributions, of the inputs' shape.
        score: ``[N]`` the score F(x) that is explained.
        baseline_score: ``[N]`` the score F(b) of the baseline.
        difference: ``[N]`` what the contributions lack: their sum minus (F(x) - F(b)).
        steps: ``[N]`` points of the path that were enough, or the greatest number allowed.
        dtype: That of the scores before they were put into float64.
    """

    values: Tensor
    score: Tensor
    baseline_score: Tensor
    difference: Tensor
    steps: Tensor
    dtype: torch.dtype

    def complete(self, tolerance: float = 1e-3) -> Tensor:
        """Bool ``[N]``: the difference is within the tolerance, relative to F(x) - F(b)."""
        return self.difference.abs() <= tolerance * (self.score - self.baseline_score).abs() + self._rounding()

    def _rounding(self) -> Tensor:
        # Two scores of this size cannot tell a smaller difference from none.
        scale = torch.maximum(self.score.abs(), self.baseline_score.abs())
        return 4 * torch.finfo(self.dtype).eps * scale


def integrated_gradients(
    model: nn.Module,
    inputs: Tensor | npt.ArrayLike,
    target: int | Tensor | npt.ArrayLike | None = None,
    *,
    baseline: Tensor | npt.ArrayLike | float = 0.0,
    steps: int = 16,
    max_steps: int = 4096,
    tolerance: float = 1e-3,
    batch_size: int = 64,
) -> Attribution:
    """Attribute a score F of a network to the values of its input.

        values_i = (x_i - b_i) * integral over a in [0, 1] of dF/dx_i (b + a (x - b))

    so that they sum to F(x) - F(b). The integral is taken by the midpoint rule; the number of points is doubled until
    the sum is within ``tolerance`` of that, relative to it (or within what their dtype can tell of the two scores). The
    network is left as it was, see
    :func:`evaluation.explanation.network.undisturbed`.

    Args:
        model: Maps ``[N, ...]`` to scores ``[N, K]`` or ``[N]``, each example by itself.
        inputs: ``[N, ...]`` examples.
        target: Which score, for all examples or one for each ``[N]``; None: each example's highest one.
        baseline: Where the path begins: a number, or an example (``[...]`` or ``[N, ...]``).
        steps: Points of the path at first.
        max_steps: Points of the path at most.
        tolerance: When the sum is near enough.
        batch_size: Points evaluated at once.

    Returns:
        Contributions, and how far they are from complete.

    Raises:
        ValueError: If an argument has a bad value, or the score does not depend differentiably on the input.

    Example:
        >>> net = nn.Linear(2, 1, bias=False)
        >>> _ = net.weight.data.copy_(torch.tensor([[2.0, -1.0]]))
        >>> integrated_gradients(net, [[3.0, 4.0]]).values
        tensor([[ 6., -4.]], dtype=torch.float64)
    """
    for name, count in (("steps", steps), ("max_steps", max_steps), ("batch_size", batch_size)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be a positive integer, got {count!r}")
    if steps > max_steps:
        raise ValueError(f"steps must be at most max_steps, {max_steps}, got {steps}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance!r}")
    with undisturbed(model) as network:
        points = network.place(inputs)
        if points.ndim < 2 or points.numel() == 0:
            raise ValueError(f"inputs must be examples [N, ...], got shape {list(points.shape)}")
        start = _baseline(network, baseline, points)
        with torch.no_grad():
            scores, origins = (network.scores(values).cpu().double() for values in (points, start))
        if not bool(scores.isfinite().all() and origins.isfinite().all()):
            raise ValueError("the network's scores must be finite, got NaN or inf for the input or the baseline")
        which = targets_of(scores, target)
        found = []
        for row, index in enumerate(which.tolist()):
            ends = scores[row, index], origins[row, index]
            path = _Path(network, start[row], points[row] - start[row], index, batch_size)
            found.append(_converge(path, *ends, steps, max_steps, tolerance))
    values, score, origin, difference, needed = (torch.stack(parts) for parts in zip(*found, strict=True))
    return Attribution(values, score, origin, difference, needed, network.dtype)


def targets_of(scores: Tensor, target: int | Tensor | npt.ArrayLike | None) -> Tensor:
    """Return the index ``[N]`` of the score to explain in ``scores`` ``[N, K]``, or raise a ValueError."""
    if target is None:
        return scores.argmax(dim=1)
    which = torch.as_tensor(target, device=scores.device)
    if which.is_floating_point() or which.dtype == torch.bool or which.shape not in ((), scores.shape[:1]):
        raise ValueError(f"target must be an integer, or one for each of the {len(scores)} examples, got {target!r}")
    which = which.long().expand(len(scores))
    if int(which.min()) < 0 or int(which.max()) >= scores.shape[1]:
        wrong = which[(which < 0) | (which >= scores.shape[1])][0]
        raise ValueError(f"target must lie in 0..{scores.shape[1] - 1}, got {int(wrong)}")
    return which


def _baseline(network: Network, baseline: Tensor | npt.ArrayLike | float, points: Tensor) -> Tensor:
    start = network.place(baseline)
    if start.shape not in ((), points.shape[1:], points.shape, (1, *points.shape[1:])):
        wanted = f"a number or of shape {list(points.shape[1:])}"
        raise ValueError(f"baseline must be {wanted}, as the input is, got {list(start.shape)}")
    return start.expand(points.shape).clone()


@dataclass(frozen=True)
class _Path:
    """The straight way from the baseline to the input."""

    network: Network
    start: Tensor
    way: Tensor
    index: int
    batch_size: int

    def contributions(self, steps: int) -> Tensor:
        """The midpoint rule with this many points, summed in float64."""
        dtype, device = self.way.dtype, self.way.device
        places = ((torch.arange(steps, dtype=torch.float64) + 0.5) / steps).to(device=device, dtype=dtype)
        total = torch.zeros(self.way.shape, dtype=torch.float64)
        for part in places.split(self.batch_size):
            points = self.start + part.view(-1, *[1] * self.way.ndim) * self.way
            points.requires_grad_()
            total += gradient(self.network.scores(points)[:, self.index].sum(), points).sum(dim=0).double().cpu()
        return self.way.double().cpu() * total / steps


def gradient(score: Tensor, inputs: Tensor) -> Tensor:
    """Return the gradient of a score, or raise a ValueError where there is none."""
    found = torch.autograd.grad(score, inputs, allow_unused=True)[0] if score.requires_grad else None
    if found is None:
        raise ValueError("the network's score does not depend differentiably on its input: its graph is cut somewhere")
    return found


def _converge(
    path: _Path, score: Tensor, origin: Tensor, steps: int, max_steps: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    while True:
        values = path.contributions(steps)
        difference = values.sum() - (score - origin)
        found = values, score, origin, difference, torch.tensor(steps)
        if bool(Attribution(*found, path.way.dtype).complete(tolerance)) or steps == max_steps:
            return found
        steps = min(2 * steps, max_steps)
