"""A step of SAM: its state, and the way to the worst nearby point and back."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ._climb import Climb, Groups
from ._common import batches, launches, local, norms
from ._layout import chunks
from ._table import has_kernels


@dataclass
class Progress:
    """State of a step of SAM, besides that of the base optimizer.

    One object, because Lightning and Fabric wrap an optimizer in an object that has its methods, but attributes of its
    own. The first four attributes are SAM's.
    """

    sharpness: Tensor | None = None
    skipped_steps: int = 0
    is_perturbed: bool = False
    steps: int = 0
    skips: bool = False  # a gradient is not finite
    descends: bool = False  # `SAM.step` is the base optimizer's
    checks: bool = False  # and is skipped if its gradient is not finite
    _perturbed: list[Tensor] = field(default_factory=list)
    _copies: dict[Tensor, Tensor] = field(default_factory=dict)  # of the weights, allocated once
    _climb: Climb | None = None  # of the last step that kernels took
    _stays: bool = False  # the last `climb` moved nothing
    _is_open: bool = False  # whether its gradient is finite is not known yet

    def climb(self, groups: Groups, wait: bool, moves: bool = True) -> None:
        """Move the weights to the worst nearby point, or only check the gradients; see `SAM.first_step`."""
        self.skips, self._perturbed, self._stays = False, [], not moves
        if not moves:
            self._is_open = False
            self._skip(not math.isfinite(squared_norm(groups)))
            self.is_perturbed = not self.skips
            return
        self.sharpness = None
        climb = self._climb = self._by_kernels(groups)
        if climb is not None and climb.fits:
            climb.start(groups, [_gradients(params) for _, params in groups])
            self.is_perturbed = self._is_open = True
            if wait:
                self.is_perturbed = not self.settle()
            else:
                climb.ask()
            return
        squared = squared_norm(groups)
        self._skip(not math.isfinite(squared))
        self.is_perturbed = not self.skips
        for group, of_group in groups if self.is_perturbed else ():
            if squared > 0 and group["rho"] > 0 and of_group:
                self.perturb(group, of_group, group["rho"] / math.sqrt(squared))

    def _by_kernels(self, groups: Groups) -> Climb | None:
        """Return the launches for the groups, those of the step before unless a weight has been replaced."""
        params = [p for _, params in groups for p in params]
        if not params or not has_kernels(params[0]) or launches() is None:
            return None
        if self._climb is not None and self._climb.matches(groups):
            return self._climb
        return Climb(groups, dict(zip(params, self._copies_of(params), strict=True)))

    def settle(self) -> bool:
        """Return whether the step is to be skipped; wait for the device if that is not known yet."""
        if self._is_open and self._climb is not None:
            self._skip(not self._climb.is_finite())
        self._is_open = False
        return self.skips

    def _skip(self, skips: bool) -> None:
        if skips:
            self.sharpness = None
        self.skips = skips
        self.skipped_steps += skips

    def _copies_of(self, params: list[Tensor]) -> list[Tensor]:
        for p in params:
            w, copy = local(p), self._copies.get(p)
            if copy is None or (copy.shape, copy.dtype, copy.device) != (w.shape, w.dtype, w.device):
                self._copies[p] = torch.empty_like(w)
        return [self._copies[p] for p in params]

    def perturb(self, group: dict[str, Any], params: list[Tensor], scale: float) -> None:
        """Add `scale` g (`scale` T² g in an adaptive group) to parameters with gradients g."""
        w, grads, copies = [local(p) for p in params], _gradients(params), self._copies_of(params)
        self._perturbed += params
        scale = -scale if group.get("maximize", False) else scale  # then the worst point is the lowest one
        if group["adaptive"]:
            torch._foreach_copy_(copies, w)
            for w_i, grad in zip(w, grads, strict=True):
                w_i.addcmul_(w_i.abs().add_(group["eta"]).square_(), grad, value=scale)
        else:
            for chunk in chunks(w, None):
                torch._foreach_copy_(copies[chunk], w[chunk])
                torch._foreach_add_(w[chunk], grads[chunk], alpha=scale)

    @torch.no_grad()
    def restore(self) -> None:
        """Copy the weights back; a RuntimeError if they are not perturbed."""
        if not self.is_perturbed:
            raise RuntimeError("the weights are not perturbed: call first_step before")
        if self._climb is not None and self._climb.fits and not self._stays:
            self._climb.restore()
        elif self._perturbed:
            torch._foreach_copy_([local(p) for p in self._perturbed], [self._copies[p] for p in self._perturbed])
        self._perturbed, self.is_perturbed = [], False


def _gradients(params: list[Tensor]) -> list[Tensor]:
    return [local(p.grad, p) for p in params if p.grad is not None]


@torch.no_grad()
def squared_norm(groups: list[tuple[dict[str, Any], list[Tensor]]]) -> float:
    """Return |g|² (|T g|² in adaptive groups) over all parameters that have a gradient, summed in float64."""
    squares = []
    for group, params in groups:
        for (owners,) in batches([params]):
            grads = _gradients(owners)
            if group["adaptive"]:  # a tensor at a time, as T g takes memory
                pairs = zip(owners, grads, strict=True)
                lengths = [norms([(local(p).abs() + group["eta"]) * g], [p]) for p, g in pairs]
            else:
                lengths = [norms(grads, owners)]
            squares += [length.double().square().sum() for length in lengths]
    if not squares:
        return 0.0
    total = torch.stack([s.to(squares[0].device) for s in squares]).sum()
    # What is on the host already is read in place, without a call that would wait for a device.
    return float(total.numpy()) if total.device.type == "cpu" else total.item()
