"""Each optimizer's steps against those of its reference twin: `optim.LAMB` against `optim.reference.lamb.SlowLAMB`.

A new optimizer is checked as soon as it has a twin with a name of this form and LAMB's interface.
"""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

import optim
from _common.errors import warn

STEPS = 30
OPTIONS: dict[str, dict[str, Any]] = {"LAMB": {"lr": 0.01}, "Muon": {"lr": 0.01, "ns_dtype": "float64"}}
"""Options of an optimizer and its twin, other than their defaults."""


def optimizer_differences(seed: int) -> dict[str, float]:
    """Return each optimizer's largest difference from its twin; warn of one that has none."""
    differences: dict[str, float] = {}
    members = {name: member for name, member in vars(optim).items() if isinstance(member, type)}
    for name in [name for name, member in members.items() if issubclass(member, torch.optim.Optimizer)]:
        module = f"optim.reference.{name.lower()}"
        if find_spec(module) is None:
            warn(f"{name} is not checked: it has no twin {module.replace('.', '/')}.py")
            continue
        twin = getattr(import_module(module), f"Slow{name}")
        if name == "SAM":
            differences["SAM"] = _sam_difference(twin, seed, rho=0.05)
            differences["SAM, adaptive"] = _sam_difference(twin, seed, rho=0.5, eta=0.01)
        else:
            differences[name] = _difference(getattr(optim, name), twin, seed, OPTIONS.get(name, {}))
    return differences


def _difference(make: Callable[..., torch.optim.Optimizer], twin: Any, seed: int, options: dict[str, Any]) -> float:
    """Compare an optimizer with a twin for a single tensor, whose `step(gradient)` returns the new weights."""
    weights = _initial_weights(seed)
    twins = [twin(w, **options) for w in weights]
    optimizer = make(weights, **options)
    return _largest(optimizer, weights, lambda: [t.step(w.grad) for t, w in zip(twins, weights, strict=True)])


def _sam_difference(twin: Any, seed: int, rho: float, eta: float | None = None) -> float:
    """Compare SAM around momentum SGD with its twin, which computes both gradients itself; `eta` makes it adaptive."""
    weights = _initial_weights(seed)
    slow = twin(weights, _loss, lr=0.01, rho=rho, eta=eta)
    base = partial(torch.optim.SGD, lr=0.01, momentum=0.9)

    def step() -> list[Tensor]:
        slow.step()
        return slow.weights

    return _largest(optim.SAM(weights, base, rho=rho, adaptive=eta is not None), weights, step)


def _largest(optimizer: torch.optim.Optimizer, weights: list[Tensor], twin_step: Callable[[], list[Tensor]]) -> float:
    """Take all steps, and return the largest difference of a weight after any of them."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _loss(weights)
        loss.backward()
        return loss

    largest = 0.0
    for _ in range(STEPS):
        optimizer.step(closure)  # type: ignore[arg-type]
        pairs = zip(weights, twin_step(), strict=True)
        largest = max(largest, *(float((a - b).detach().abs().max()) for a, b in pairs))
    return largest


def _initial_weights(seed: int) -> list[Tensor]:
    """Return a matrix and a vector, float64."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((4, 5), (6,))
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def _loss(weights: Sequence[Tensor]) -> Tensor:
    """Return a loss that is neither quadratic nor convex."""
    loss: Tensor = sum((x**4).sum() / 4 + (3 * x).cos().sum() for x in weights)  # type: ignore[assignment]
    return loss
