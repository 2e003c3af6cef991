"""The subject of `gradient_check.py --module`: a module, an autograd function, or a plain function."""

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import yaml
from torch import nn

from _common.described import Described, arguments, parts
from _common.names import nearest
from _common.rebuild import imported

HOMES = ("activations", "lightning_modules.backbones", "torch.nn")
"""Where names without a dot are looked up."""


class Built(NamedTuple):
    """The subject, as a function of tensors."""

    path: str
    function: Callable[..., Any]
    module: nn.Module | None  # that the function is, if it is one


def build(described: Described, seed: int) -> Built:
    """Return the object that the user has named: a module, or a function of tensors.

    A class of modules is instantiated with the options that were typed, a function whose arguments are all given is
    called, and is a factory if it returns a module. `apply` of an autograd function gets the tensors first, and the
    options by the names of its `forward`.

    Raises:
        ValueError: If the path names nothing that can be differentiated, or options do not fit.
    """
    path, values = parts(described, "module")
    path, target = find(path)
    torch.manual_seed(seed)
    if isinstance(target, nn.Module):
        made: Any = copy.deepcopy(target)
    elif inspect.isclass(target) and issubclass(target, torch.autograd.Function):
        return Built(path, _apply(target, values), None)
    elif inspect.isclass(target) and issubclass(target, nn.Module):
        made = _made(path, arguments(target, "module", values))
    elif not callable(target) or inspect.isclass(target):
        found = target.__name__ if inspect.isclass(target) else type(target).__name__
        raise ValueError(f"--module {path} must be an nn.Module, an autograd function or a factory, found {found}")
    elif _is_factory(target, values):
        made = _made(path, arguments(target, "module", values))
        if not isinstance(made, nn.Module):
            raise ValueError(f"--module {path} must return an nn.Module, found {type(made).__name__}")
    else:
        return Built(path, functools.partial(target, **_read(values)), None)
    return Built(path, made, made)


def find(path: str) -> tuple[str, Any]:
    """Return the full import path of a name, and what it names.

    Raises:
        ValueError: If there is nothing.
    """
    for full in [f"{home}.{path}" for home in HOMES] if path.isidentifier() else [path]:
        if (found := imported("--module", full)) is not None:
            return full, found
    if path.isidentifier():
        known = [name for home in HOMES for name in dir(imported("--module", home)) if name[:1].isupper()]
        raise ValueError(
            f"--module: nothing is named {path!r} ({nearest(path, known)}); give an import path: my.{path}"
        )
    raise ValueError(
        f"--module: nothing can be imported as {path!r}: it must be MODULE.NAME, of a file in this folder or installed"
    )


def reason(error: Exception) -> str:
    """Return an error of the user's code as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _made(path: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:  # whatever the user's class raises
        raise ValueError(f"--module {path} cannot be made: {reason(error)}") from error


def _is_factory(function: Callable[..., Any], values: dict[str, Any]) -> bool:
    """Return whether a function makes a module: by its annotations, or since it needs no more arguments."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # of a built-in function
        return False
    needed = [one for one in parameters if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
    returned = inspect.signature(function).return_annotation
    makes = (inspect.isclass(returned) and issubclass(returned, nn.Module)) or str(returned).endswith("Module")
    takes_numbers = any(one.annotation in (int, float, bool, str) for one in needed)
    return makes or takes_numbers or "help" in values or all(one.name in values for one in needed)


def _apply(function: type[torch.autograd.Function], values: dict[str, Any]) -> Callable[..., Any]:
    """Return `apply` with the values in the places that `forward` has for them."""
    given = _read(values)
    separate = function.setup_context is not torch.autograd.Function.setup_context  # whether forward has no context
    names = list(inspect.signature(function.forward).parameters)[0 if separate else 1 :]
    if unknown := [name for name in given if name not in names]:
        raise ValueError(f"--module.{unknown[0]} is no argument of forward, which has {', '.join(names)}")

    def call(*tensors: Any) -> Any:
        rest, places = list(tensors), []
        for name in names:
            if name in given:
                places.append(given[name])
            elif rest:
                places.append(rest.pop(0))
        return function.apply(*places, *rest)

    return call if given else function.apply


def _read(values: dict[str, Any]) -> dict[str, Any]:
    """Return values that are text as what YAML reads in it."""
    return {name: yaml.safe_load(one) if isinstance(one, str) else one for name, one in values.items()}
