"""Schedules for parameter groups that an optimizer gets during a training, as when a callback unfreezes layers."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .optimization import schedulers_in

_SCALED = ("base_lrs", "max_lrs")
_ALIKE = ("lr_lambdas", "min_lrs", "base_momentums", "max_momentums")
_RATES = ("initial_lr", "max_lr", "min_lr", "swa_lr")
_MOMENTA = ("base_momentum", "max_momentum")


def cover(scheduler: LRScheduler) -> None:
    """Let a scheduler cover the groups that its optimizer has got since it was made.

    A new group has the shape of the first group's schedule. Its peak, and whatever else is a rate, relates to the first
    group's as their present rates do: added with a tenth of the present rate, it has a tenth of the rate ever after.

    Args:
        scheduler: One of torch's, or any that keeps its rates as they do; changed in place.

    >>> import torch
    >>> from torch.optim.lr_scheduler import LambdaLR
    >>> one, two = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(one.parameters(), lr=1.0)
    >>> scheduler = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    >>> optimizer.step()
    >>> scheduler.step()
    >>> optimizer.add_param_group({"params": list(two.parameters()), "lr": 0.05})  # a tenth of 1 / 2
    >>> cover(scheduler)
    >>> optimizer.step()
    >>> scheduler.step()
    >>> [round(group["lr"], 3) for group in optimizer.param_groups]
    [0.333, 0.033]
    """
    groups: list[dict[str, Any]] = scheduler.optimizer.param_groups
    ratios = [_ratio(group, groups[0]) for group in groups]
    for group, ratio in zip(groups[1:], ratios[1:], strict=True):
        for name in {*_RATES, *_MOMENTA} & groups[0].keys() - group.keys():
            value = groups[0][name]
            group[name] = value * ratio if name in _RATES and value is not None else value
    for part in schedulers_in(scheduler):
        for name, values in vars(part).items():
            if name in _SCALED + _ALIKE and isinstance(values, list) and values:
                scales = ratios[len(values) :]
                values += [values[0] * scale if name in _SCALED else values[0] for scale in scales]


def rescale(scheduler: LRScheduler, place: int, ratio: float) -> None:
    """Multiply the rates of one group in a scheduler, after somebody else has multiplied its present rate."""
    group = scheduler.optimizer.param_groups[place]
    for name in _RATES:
        if group.get(name) is not None:
            group[name] *= ratio
    for part in schedulers_in(scheduler):
        for name in _SCALED:
            values = getattr(part, name, None)
            if isinstance(values, list) and place < len(values):
                values[place] *= ratio


def rates(optimizer: Optimizer, first: int) -> list[float]:
    """Return the present rates of the groups from the place `first` on."""
    return [float(group["lr"]) for group in optimizer.param_groups[first:]]


def _ratio(group: dict[str, Any], first: dict[str, Any]) -> float:
    rate, reference = group.get("lr"), first.get("lr")
    return float(rate / reference) if rate is not None and reference else 1.0
