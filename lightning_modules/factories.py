"""Factories as plain data, which a checkpoint can hold and `torch.load(weights_only=True)` can read.

A factory builds a part of a network or of its training: a class, a function or a `functools.partial` of one. `plain`
writes it as strings, numbers, lists and dictionaries, and `factory` reads it back; `networks` builds the network.
"""

import copy
import difflib
import functools
import importlib
import inspect
import pickle
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

import activations

from .paths import current_path, load, public_path
from .schedule import as_factory

Plain: TypeAlias = str | dict[str, Any]
ActivationFactory: TypeAlias = Callable[[], nn.Module]
BackboneFactory: TypeAlias = Callable[[int, tuple[int, ...], ActivationFactory], nn.Module]
OptimizerFactory: TypeAlias = Callable[[Iterable], Optimizer]
SchedulerFactory: TypeAlias = Callable[[Optimizer], LRScheduler]

_PRODUCTS = (nn.Module, Optimizer, LRScheduler)
_HOMES = {
    "optimizer": ("optim", "torch.optim", "timm.optim"),
    "lr_scheduler": ("lightning_modules", "torch.optim.lr_scheduler"),
}
"""Where the short names of an argument are looked up, in this order; `activations.class_path` knows activations."""


class Given:
    """A factory, or an object in place of one, that cannot be written as plain data.

    Each site of an activation gets a copy of its own. It can be pickled if Python can pickle what it holds.
    """

    def __init__(self, value: Any, where: str) -> None:
        self.value, self.where = value, where

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the product: a copy of a module, an optimizer or a scheduler as it is."""
        if isinstance(self.value, nn.Module):
            return copy.deepcopy(self.value)
        return self.value if isinstance(self.value, (Optimizer, LRScheduler)) else self.value(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Given":
        """Copy a partial or an object; Python copies no functions."""
        return Given(copy.deepcopy(self.value, memo), self.where)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what is pickled.

        Raises:
            pickle.PicklingError: If Python cannot pickle the value.
        """
        try:
            pickle.dumps(self.value)
        except Exception as error:  # each type has its own
            raise pickle.PicklingError(
                f"{self.where}: {_shown(self.value)} cannot be pickled, which copying a model to another process needs "
                f"({error}): define it at the top level of a module"
            ) from None
        return Given, (self.value, self.where)


class _NotData(Exception):
    """The value has no form as plain data."""


def plain(value: Any, where: str, product: type | tuple[type, ...] = _PRODUCTS) -> Plain:
    """Write a factory as plain data.

    Args:
        value: A class, a function, a `functools.partial` of one, an import path, a short name, a dictionary
            `{"class_path": path, "init_args": {...}}` (what the command line writes), or an object.
        where: The argument's name, for messages and for the short names.
        product: Type of the product. A class must be a subclass of it.

    Returns:
        The shortest public import path; such a dictionary if arguments are bound; or `{"unsaved": description}` for
        what cannot be rebuilt from an import path: a lambda, a function inside another one, an object.

    Raises:
        ValueError: If the value is no factory, names nothing, or makes another product.

    >>> plain(nn.ReLU, "activation"), plain("gelu", "activation")
    ('torch.nn.ReLU', 'torch.nn.GELU')
    >>> plain(functools.partial(nn.LeakyReLU, 0.2), "activation")
    {'class_path': 'torch.nn.LeakyReLU', 'init_args': {'negative_slope': 0.2}}
    >>> plain(nn.LeakyReLU(0.2), "activation")
    {'unsaved': 'LeakyReLU(negative_slope=0.2)'}
    """
    try:
        return _written(value, where, product)
    except _NotData:
        return {"unsaved": _shown(value)}


def callable_of(value: Any, spec: Plain, where: str) -> Callable[..., Any]:
    """Return the factory that `spec`, the result of `plain(value)`, describes, with `value` where that is unsaved."""
    return Given(value, where) if isinstance(spec, dict) and "unsaved" in spec else factory(spec, where)


def factory(spec: Plain, where: str) -> Callable[..., Any]:
    """Return the callable that `plain` wrote.

    Args:
        spec: Result of `plain`.
        where: The argument's name, for messages.

    Returns:
        The class or function, with its arguments bound.

    Raises:
        ValueError: If nothing can be imported from the path.

    >>> factory({"class_path": "torch.nn.LeakyReLU", "init_args": {"negative_slope": 0.2}}, "activation")()
    LeakyReLU(negative_slope=0.2)
    """
    path, arguments = (spec, {}) if isinstance(spec, str) else (spec["class_path"], spec.get("init_args", {}))
    target = _import(path, where)
    bound = {name: _revive(value, f"{where}.{name}") for name, value in arguments.items()}
    return functools.partial(target, **bound) if bound else target


def _written(value: Any, where: str, product: type | tuple[type, ...]) -> Plain:
    if where == "lr_scheduler":
        value = as_factory(value)
    if isinstance(value, str):
        path = _full_path(value, where, product)
        target = _import(path, where)
        _check(target, path, where, product)
        return min(public_path(target) or path, path, key=lambda one: one.count("."))
    if isinstance(value, Mapping):
        return _written_mapping(value, where, product)
    if isinstance(value, functools.partial):
        target, arguments = _unbind(value)
        return _with_arguments(_written(target, where, product), arguments, where)
    if isinstance(value, _PRODUCTS):
        _check(type(value), _shown(value), where, product)
        raise _NotData
    _check(value, _shown(value), where, product)
    if (public := public_path(value)) is None:
        raise _NotData
    return public


def _written_mapping(value: Mapping[str, Any], where: str, product: type | tuple[type, ...]) -> Plain:
    if "unsaved" in value:
        raise ValueError(f"{where}: the checkpoint cannot hold {value['unsaved']}: pass {where}=...")
    unknown = set(value) - {"class_path", "init_args"}
    if "class_path" not in value or unknown:
        keys = sorted(map(str, value))
        raise ValueError(f"{where}: a dictionary needs 'class_path' and may have 'init_args', found the keys {keys}")
    return _with_arguments(_written(value["class_path"], where, product), value.get("init_args") or {}, where)


def _with_arguments(base: Plain, arguments: Mapping[str, Any], where: str) -> Plain:
    if not arguments:
        return base
    bound = {name: _data(value, f"{where}.{name}") for name, value in arguments.items()}
    if isinstance(base, str):
        return {"class_path": base, "init_args": bound}
    return {"class_path": base["class_path"], "init_args": base["init_args"] | bound}


def _data(value: Any, where: str) -> Any:
    """Return plain data for a bound argument; a factory becomes a dictionary, to tell it from a string."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_data(item, where) for item in value]
    if isinstance(value, Mapping) and "class_path" not in value:
        return {str(name): _data(item, f"{where}.{name}") for name, item in value.items()}
    if not isinstance(value, Mapping) and not callable(value):
        raise _NotData
    spec = _written(value, where, object)
    return {"class_path": spec} if isinstance(spec, str) else spec


def _revive(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        if "class_path" in value:
            return factory(dict(value), where)
        return {name: _revive(item, f"{where}.{name}") for name, item in value.items()}
    return [_revive(item, where) for item in value] if isinstance(value, list | tuple) else value


def _unbind(value: functools.partial) -> tuple[Any, dict[str, Any]]:
    """Return the target of a partial and all its bound arguments by name."""
    target, positional = value.func, value.args
    if getattr(target, "__module__", "").startswith("jsonargparse."):
        # The command line's factories are `partial(instantiate, instantiator, target, **arguments)`.
        target, positional = positional[-1], ()
    if not positional:
        return target, dict(value.keywords)
    try:
        signature = inspect.signature(target)
        bound = signature.bind_partial(*positional).arguments
    except (TypeError, ValueError):  # Python's own error comes from the call
        raise _NotData from None
    if any(signature.parameters[name].kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD for name in bound):
        raise _NotData
    return target, {**bound, **value.keywords}


def _full_path(name: str, where: str, product: type | tuple[type, ...]) -> str:
    """Return the import path of a short name; a path that has moved is read as the present one."""
    if not name.isidentifier():
        return current_path(name)
    if where == "activation":
        return activations.class_path(name)
    homes = _HOMES.get(where, ())
    for home in homes:  # timm is imported only for a name that is neither ours nor torch's
        if inspect.isclass(found := load(f"{home}.{name}")) and issubclass(found, product):
            return f"{home}.{name}"
    known = [
        one for home in homes[:2] for one, made in vars(importlib.import_module(home)).items() if inspect.isclass(made)
    ]
    near = difflib.get_close_matches(name, known)
    hint = f"the nearest are {', '.join(near)}" if near else "give a name or a full import path such as 'torch.nn.ReLU'"
    raise ValueError(f"{where}: nothing is named {name!r}: {hint}")


def _import(path: str, where: str) -> Any:
    try:
        target = load(current_path(path))
    except ImportError as error:
        raise ValueError(f"{where}: importing {path!r} failed: {error}") from None
    if target is None:
        raise ValueError(
            f"{where}: nothing can be imported as {path!r}: give a full import path such as 'torch.nn.ReLU'"
        )
    return target


def _check(target: Any, shown: str, where: str, product: type | tuple[type, ...]) -> None:
    if not callable(target):
        raise ValueError(f"{where}: must be a class, a function, a partial, a name or an import path, found {shown}")
    if inspect.isclass(target) and not issubclass(target, product):
        names = " or ".join(kind.__name__ for kind in (product if isinstance(product, tuple) else (product,)))
        raise ValueError(f"{where}: {shown} is not a subclass of {names}")


def _shown(value: Any) -> str:
    text = repr(value).partition(" at 0x")[0].replace("\n", " ") + (">" if " at 0x" in repr(value) else "")
    return text if len(text) <= 80 else text[:77] + "..."
