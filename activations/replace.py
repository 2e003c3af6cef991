"""Swap the activations of any model."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ._rewrite import rewrite_forward

Kinds = type[nn.Module] | tuple[type[nn.Module], ...]

# Where a module keeps its hooks. The dictionaries are moved, not copied, so handles still remove their hooks.
_HOOKS = [name for name in vars(nn.Module()) if "hook" in name and ("forward" in name or "backward" in name)]


def replace(model: nn.Module, old: Kinds, new: Callable[..., nn.Module]) -> int:
    """Swap the activations of a model, in place: modules, and functional calls such as `F.relu(x)` or `x.relu()`.

    Functional calls are found by tracing the forward of each module with `torch.fx`. A forward that contains one gets a
    new class with the traced code, one version for training and one for evaluation; any other flag that it branches on
    is fixed at its present value. A forward that cannot be traced keeps its calls, with a RuntimeWarning: one that
    branches on values, makes tensors, changes attributes or buffers, or switches gradients or autocast.

    Every registration of a module and every functional call is one site and gets an instance of its own (a module that
    one forward calls twice is one site). The new module takes over the hooks, the training mode and, if its constructor
    has an argument `inplace`, the in-place flag of the old one; its parameters get the device and dtype of the model.

    Args:
        model: Any module that is not itself an activation to be swapped.
        old: The module class to swap, or a tuple of them, with their subclasses.
        new: Factory of the activations: a class, `functools.partial` of one, or any function that returns a new module.

    Returns:
        The number of sites swapped.

    Raises:
        ValueError: If there is nothing to swap, or `new` does not return a new module each time.

    Example:
        >>> from torch import nn
        >>> from activations import SPOCU, replace
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
        >>> replace(model, nn.ReLU, SPOCU)
        1
        >>> model[1]
        SPOCU(alpha=3.0937, beta=0.6653, gamma=4.437, c=inf)
    """
    kinds = old if isinstance(old, tuple) else (old,)
    _check(model, kinds)
    label = " or ".join(kind.__name__ for kind in kinds)
    functions, methods = _functional_names(kinds)
    maker = _Maker(model, new)
    parents = [module for module in model.modules() if not isinstance(module, kinds)]
    for parent in parents:
        for name, child in list(parent._modules.items()):
            if child is not None and isinstance(child, kinds):
                setattr(parent, name, maker.instead_of(child))
                _forget_fast_path(parent)
        for name, value in list(vars(parent).items()):
            if inspect.isroutine(value) and value in functions:
                delattr(parent, name)
                setattr(parent, name, maker.make(inplace=False, training=parent.training))
                _forget_fast_path(parent)
        rewrite_forward(parent, functions, methods, maker.make)
    if not maker.made:
        raise ValueError(f"{type(model).__name__} has no {label} to swap, neither as a module nor as a function")
    return len(maker.made)


def _check(model: nn.Module, kinds: tuple[Any, ...]) -> None:
    if not kinds or not all(isinstance(kind, type) and issubclass(kind, nn.Module) for kind in kinds):
        raise ValueError(f"old must be a module class or a tuple of them, such as nn.ReLU, found {kinds}")
    if isinstance(model, kinds):
        raise ValueError(
            f"the model itself is a {type(model).__name__}, which cannot be swapped in place: make the new one"
        )
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ValueError("the model holds code that torch.jit has compiled: swap its activations before that")


class _Maker:
    """Creates the new modules of a model and keeps them."""

    def __init__(self, model: nn.Module, new: Callable[..., nn.Module]) -> None:
        self.new = new
        self.made: list[nn.Module] = []
        tensors = (*model.parameters(), *model.buffers())
        self.like = next((t for t in tensors if t.is_floating_point()), None)
        try:
            self.takes_inplace = "inplace" in inspect.signature(new).parameters
        except ValueError:  # a callable without a signature
            self.takes_inplace = False

    def make(self, inplace: bool, training: bool) -> nn.Module:
        module = self.new(inplace=True) if inplace and self.takes_inplace else self.new()
        if not isinstance(module, nn.Module):
            raise ValueError(f"new must make a torch.nn.Module, found {type(module).__name__}")
        if any(module is other for other in self.made):
            raise ValueError(f"new must make a new module each time, found the same {type(module).__name__} twice")
        self.made.append(module)
        if self.like is not None:
            module.to(device=self.like.device, dtype=self.like.dtype)
        return module.train(training)

    def instead_of(self, old: nn.Module) -> nn.Module:
        module = self.make(inplace=bool(getattr(old, "inplace", False)), training=old.training)
        for name in _HOOKS:
            module.__dict__[name] = old.__dict__[name]
        return module


def _functional_names(kinds: tuple[type[nn.Module], ...]) -> tuple[set[Callable[..., Any]], set[str]]:
    """Return the functions and the tensor methods that compute the same as the modules of `kinds`, by their names."""
    wanted = {kind.__name__.lower() for kind in kinds if kind.__module__.startswith("torch.nn")}

    def matching(namespace: Any) -> set[str]:
        return {name for name in dir(namespace) if name.replace("_", "") in wanted and not name.startswith("_")}

    functions = {getattr(namespace, name) for namespace in (F, torch) for name in matching(namespace)}
    return {function for function in functions if inspect.isroutine(function)}, matching(torch.Tensor)


def _forget_fast_path(parent: nn.Module) -> None:
    """Keep nn.TransformerEncoderLayer from computing the ReLU or GELU that its fast path for evaluation stores."""
    if isinstance(parent, nn.TransformerEncoderLayer):
        parent.activation_relu_or_gelu = 0
