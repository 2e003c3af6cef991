"""Backbones by name."""

import difflib
import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from .timm_model import timm_model


def own_backbones() -> dict[str, Callable[..., nn.Module]]:
    """Return the backbones that the package exports, by name: what takes `num_classes` as its first argument.

    >>> "resnet20" in own_backbones(), "timm_model" in own_backbones()
    (True, False)
    """
    exported = vars(importlib.import_module(__package__)).items()
    made: dict[str, Callable[..., Any]] = {
        name: make for name, make in exported if inspect.isclass(make) or inspect.isfunction(make)
    }
    return {
        name: make for name, make in made.items() if next(iter(inspect.signature(make).parameters)) == "num_classes"
    }


def named(name: str) -> Callable[..., nn.Module]:
    """Return the factory of a backbone, which takes the keywords `num_classes`, `image_shape` and `activation`.

    Args:
        name: A key of `own_backbones()`, or the name of any timm model.

    Raises:
        ValueError: If there is no such backbone; the message lists the nearest names.

    >>> named("resnet20").__name__
    'resnet20'
    """
    ours = own_backbones()
    if name in ours:
        return ours[name]
    import timm  # takes seconds and is needed here only

    if timm.is_model(name):
        return functools.partial(timm_model, name)
    by_lower_case = {known.lower(): known for known in [*timm.list_models(), *ours]}
    near = [by_lower_case[close] for close in difflib.get_close_matches(name.lower(), by_lower_case, n=5)]
    raise ValueError(f"unknown backbone {name!r}; the nearest names of ours and timm's: {', '.join(near or ours)}")


def in_library(library: str, function: Any) -> bool:
    """Return whether a function builds a model that `list_models` of `"timm"` or `"torchvision"` names.

    >>> import torchvision
    >>> in_library("torchvision", torchvision.models.resnet18), in_library("timm", torchvision.models.resnet18)
    (True, False)
    """
    if not inspect.isfunction(function) or function.__module__.split(".")[0] != library:
        return False
    if library == "timm":
        import timm

        return timm.is_model(function.__name__) and timm.model_entrypoint(function.__name__) is function
    from torchvision import models

    return function.__name__ in models.list_models() and models.get_model_builder(function.__name__) is function
