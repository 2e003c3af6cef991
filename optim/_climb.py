"""SAM's way to the worst nearby point and back, by kernels and without waiting for the device."""

import math
from typing import Any

import torch
from torch import Tensor

from ._common import launches
from ._table import Plan, addresses

Groups = list[tuple[dict[str, Any], list[Tensor]]]


class Climb:
    """The launches that move all parameters of SAM's groups and put them back.

    Args:
        groups: Each group and its parameters that have a gradient.
        copies: For each parameter, a tensor of its layout, in which its weights are kept.

    Attributes:
        fits: Whether the kernels step all parameters; otherwise nothing else may be called.
    """

    def __init__(self, groups: Groups, copies: dict[Tensor, Tensor]) -> None:
        make = launches().SamLists
        self._addresses = [addresses(params) for _, params in groups]
        self._plans = [Plan((params, [copies[p] for p in params]), (), make) for _, params in groups]
        devices = {p.device for _, params in groups for p in params}
        self.fits = len(devices) == 1 and not any(plan.others for plan in self._plans)
        places, total = [], 0
        for lists in (lists for plan in self._plans for lists, _ in plan.parts):
            places.append((total, len(lists.table.chunks)))
            total += -(-places[-1][1] // 4) * 4  # each part at a multiple of 16 bytes
        device = devices.pop()
        self._sums = torch.zeros(total, dtype=torch.float32, device=device)
        self._parts = [self._sums[start : start + number] for start, number in places]
        self._squared = torch.zeros(1, dtype=torch.float32, device=device)
        self._answer = torch.zeros(1, dtype=torch.float32, device="cpu", pin_memory=device.type == "cuda")
        self._answered: Any = None

    def matches(self, groups: Groups) -> bool:
        """Return whether all parameters are where they were."""
        return self._addresses == [addresses(params) for _, params in groups]

    def start(self, groups: Groups, grads: list[list[Tensor]]) -> None:
        """Move the weights along gradients, one list for each group, or nowhere if one is not finite."""
        steps = [
            (lists, group, [values[i] for i in index])
            for plan, (group, _), values in zip(self._plans, groups, grads, strict=True)
            for lists, index in plan.parts
        ]
        for (lists, group, values), sums in zip(steps, self._parts, strict=True):
            lists.squares(group, values, sums)
        for lists, group, _ in steps:
            lists.climb(group, self._sums, self._squared)
        self._answered = None

    def ask(self) -> None:
        """Send the squared norm of the gradient to the host, for `is_finite`."""
        if self._squared.is_cuda:
            self._answer.copy_(self._squared, non_blocking=True)
            self._answered = torch.cuda.Event()
            # On the stream of the copy, which is not the current device's if the parameters are elsewhere.
            self._answered.record(torch.cuda.current_stream(self._squared.device))

    def is_finite(self) -> bool:
        """Return whether the gradient was finite, after waiting for the norm (after `ask`, for nothing else)."""
        if self._answered is None:
            return math.isfinite(self._squared.item())
        self._answered.synchronize()
        return math.isfinite(self._answer.item())

    def restore(self) -> None:
        """Put the weights back."""
        for plan in self._plans:
            for lists, _ in plan.parts:
                lists.restore()
