"""Checks of SAM: its options and parameters, and base optimizers that cannot step for it."""

import inspect
from typing import Any

from torch.optim.optimizer import Optimizer

from ._common import check_not_negative, check_parameters

OPTIONS = ("rho", "adaptive", "eta")


def check_group(group: dict[str, Any]) -> None:
    """Refuse bad options and parameters of a group."""
    check_parameters("SAM", group, whole=True)
    check_not_negative(group, "rho", "eta")


def check_base(base: Any) -> None:
    """Refuse what is no optimizer, or one that cannot step for SAM."""
    name = type(base).__name__
    if not isinstance(base, Optimizer):
        raise ValueError(f"base_optimizer must make a torch.optim.Optimizer, found an instance of {name}: give a class")
    for option in OPTIONS:
        if option in base.defaults:
            raise ValueError(f"base_optimizer {name} has an option {option}, as SAM has: choose another optimizer")
    closure = inspect.signature(base.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise ValueError(f"base_optimizer {name} evaluates the loss itself: choose one whose step needs no closure")
