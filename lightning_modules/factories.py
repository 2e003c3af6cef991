"""Factories as plain data, which a checkpoint can hold and `torch.load(weights_only=True)` can read.

A factory builds a part of a network or of its training: a class, a function or a `functools.partial` of one. `plain`
writes it as strings, numbers, lists and dictionaries, and `factory` reads it back. `build_backbone` builds the network.
"""

import functools
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, get_type_hints

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .backbones.named import named
from .paths import current_path, load, public_path

Plain: TypeAlias = str | dict[str, Any]
ActivationFactory: TypeAlias = Callable[[], nn.Module]
BackboneFactory: TypeAlias = Callable[[int, tuple[int, ...], ActivationFactory], nn.Module]
OptimizerFactory: TypeAlias = Callable[[Iterable], Optimizer]
SchedulerFactory: TypeAlias = Callable[[Optimizer], LRScheduler]

_PRODUCTS = (nn.Module, Optimizer, LRScheduler)


def plain(value: Any, where: str, product: type | tuple[type, ...] = _PRODUCTS) -> Plain:
    """Write a factory as plain data.

    Args:
        value: A class, a function, a `functools.partial` of one, an import path, or a dictionary
            `{"class_path": path, "init_args": {...}}` (what the command line writes).
        where: The argument's name, for messages.
        product: Type of the product. A class must be a subclass of it and a function must be annotated as returning
            it, so that a checkpoint from elsewhere cannot name an arbitrary callable such as `os.system`.

    Returns:
        The shortest public import path, or such a dictionary if arguments are bound.

    Raises:
        ValueError: If the value cannot be rebuilt from an import path (a lambda, a closure, an object), or has another
            product.

    >>> plain(nn.ReLU, "activation")
    'torch.nn.ReLU'
    >>> plain(functools.partial(nn.LeakyReLU, 0.2), "activation")
    {'class_path': 'torch.nn.LeakyReLU', 'init_args': {'negative_slope': 0.2}}
    >>> plain(lambda: nn.ReLU(), "activation")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: activation: ... is a lambda or defined inside a function: define it at the top level of a module
    """
    if isinstance(value, str):
        path = current_path(value)
        target = _import(path, where)
        _check_product(target, path, where, product)
        return min(public_path(target) or path, path, key=lambda one: one.count("."))
    if isinstance(value, Mapping):
        return _plain_mapping(value, where, product)
    if isinstance(value, functools.partial):
        target, arguments = _unbind(value, where)
        return _with_arguments(plain(target, where, product), arguments, where)
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        raise ValueError(f"{where}: {_shown(value)} is an object, not a factory: give a class, a function or a partial")
    path = _path(value, where)
    _check_product(value, path, where, product)
    return path


def factory(spec: Plain, where: str, product: type | tuple[type, ...] = _PRODUCTS) -> Callable[..., Any]:
    """Return the callable that `plain` wrote.

    Args:
        spec: Result of `plain`.
        where: The argument's name, for messages.
        product: Type of the product; see `plain`.

    Returns:
        The class or function, with its arguments bound.

    Raises:
        ValueError: If the path cannot be imported or has another product.

    >>> factory({"class_path": "torch.nn.LeakyReLU", "init_args": {"negative_slope": 0.2}}, "activation")()
    LeakyReLU(negative_slope=0.2)
    """
    path, arguments = (spec, {}) if isinstance(spec, str) else (spec["class_path"], spec.get("init_args", {}))
    target = _import(path, where)
    _check_product(target, path, where, product)
    bound = {name: _revive(value, f"{where}.{name}") for name, value in arguments.items()}
    return functools.partial(target, **bound) if bound else target


def _plain_mapping(value: Mapping[str, Any], where: str, product: type | tuple[type, ...]) -> Plain:
    unknown = set(value) - {"class_path", "init_args"}
    if "class_path" not in value or unknown:
        keys = sorted(map(str, value))
        raise ValueError(f"{where}: a dictionary needs 'class_path' and may have 'init_args', found the keys {keys}")
    path = plain(value["class_path"], where, product)
    return _with_arguments(path, value.get("init_args") or {}, where)


def _with_arguments(base: Plain, arguments: Mapping[str, Any], where: str) -> Plain:
    if not arguments:
        return base
    path = base if isinstance(base, str) else base["class_path"]
    return {"class_path": path, "init_args": {name: _data(v, f"{where}.{name}") for name, v in arguments.items()}}


def _data(value: Any, where: str) -> Any:
    """Return plain data for a bound argument; a factory becomes a dictionary, to tell it from a string."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_data(item, where) for item in value]
    if isinstance(value, Mapping) and "class_path" not in value:
        return {str(name): _data(item, f"{where}.{name}") for name, item in value.items()}
    spec = plain(value, where)
    return {"class_path": spec} if isinstance(spec, str) else spec


def _revive(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        if "class_path" in value:
            return factory(dict(value), where)
        return {name: _revive(item, f"{where}.{name}") for name, item in value.items()}
    return [_revive(item, where) for item in value] if isinstance(value, list | tuple) else value


def _unbind(value: functools.partial, where: str) -> tuple[Any, dict[str, Any]]:
    """Return the target of a partial and all its bound arguments by name."""
    target, positional = value.func, value.args
    if getattr(target, "__module__", "").startswith("jsonargparse."):
        # The command line's factories are `partial(instantiate, instantiator, target, **arguments)`.
        target, positional = positional[-1], ()
    if not positional:
        return target, dict(value.keywords)
    try:
        bound = inspect.signature(target).bind_partial(*positional)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {_shown(target)} does not take the bound arguments ({error})") from None
    kinds = inspect.signature(target).parameters
    if any(kinds[name].kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD for name in bound.arguments):
        raise ValueError(f"{where}: bind the arguments of {_shown(target)} by keyword, found {positional!r}")
    return target, {**bound.arguments, **value.keywords}


def _path(value: Any, where: str) -> str:
    if "<" in getattr(value, "__qualname__", ""):
        raise ValueError(
            f"{where}: {_shown(value)} is a lambda or defined inside a function: define it at the top level of a module"
        )
    path = public_path(value)
    if path is None:
        raise ValueError(
            f"{where}: {_shown(value)} cannot be imported from {getattr(value, '__module__', None) or 'any module'}: "
            "give its import path"
        )
    return path


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


def _check_product(target: Any, path: str, where: str, product: type | tuple[type, ...]) -> None:
    names = " or ".join(kind.__name__ for kind in (product if isinstance(product, tuple) else (product,)))
    if inspect.isclass(target):
        if not issubclass(target, product):
            raise ValueError(f"{where}: {path} is not a subclass of {names}")
        return
    if not inspect.isfunction(target):
        raise ValueError(f"{where}: {path} is neither a class nor a function")
    try:
        made = get_type_hints(target).get("return")
    except NameError:
        made = None
    if not (inspect.isclass(made) and issubclass(made, product)):
        raise ValueError(f"{where}: the function {path} must be annotated as returning {names}, found {made!r}")


def _shown(value: Any) -> str:
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 80 else text[:77] + "..."


def plain_backbone(backbone: BackboneFactory | str | dict[str, Any]) -> Plain:
    """Return a backbone's name, or its factory as plain data; see `plain`.

    Raises:
        ValueError: If it is unknown, or binds an argument that the classifier sets.
    """
    if isinstance(backbone, str) and not _is_path(backbone):
        named(backbone)
        return backbone
    spec = plain(backbone, "backbone", nn.Module)
    bound = {} if isinstance(spec, str) else spec.get("init_args", {})
    for name in ("num_classes", "image_shape", "activation"):
        if name in bound:
            raise ValueError(f"backbone: {name} is bound to {bound[name]!r}: give {name} to the classifier instead")
    return spec


def requires_activation(spec: Plain) -> bool:
    """Return whether the backbone has an argument `activation` without a default."""
    parameter = inspect.signature(_backbone_factory(spec)).parameters.get("activation")
    return parameter is not None and parameter.default is parameter.empty


def build_backbone(spec: Plain, num_classes: int, image_shape: tuple[int, ...], activation: Plain | None) -> nn.Module:
    """Build the network from the result of `plain_backbone`; without an activation it keeps its own."""
    options: dict[str, Any] = {"num_classes": num_classes, "image_shape": image_shape}
    if activation is not None:
        options["activation"] = factory(activation, "activation", nn.Module)
    return _backbone_factory(spec)(**options)


def _backbone_factory(spec: Plain) -> Callable[..., nn.Module]:
    return named(spec) if isinstance(spec, str) and not _is_path(spec) else factory(spec, "backbone", nn.Module)


def compile_in_place(module: nn.Module, device: torch.device) -> None:
    """Compile a module in place, which keeps the names in its state; warn if no compiler works for the device."""
    try:
        torch.compile(_probe)(torch.ones(2, device=device))
    except Exception as error:  # each missing part of the tool chain raises its own error
        reason = str(error).strip().splitlines()[0]
        warnings.warn(f"compile=True has no effect, torch.compile does not work on {device} ({reason})", stacklevel=2)
    else:
        module.compile()


def _probe(values: Tensor) -> Tensor:
    return values * 2 + 1


def _is_path(name: str) -> bool:
    # timm's names may have a tag after a dot, but the part before the dot is no module.
    # find_spec refuses some imported modules, such as a script's __main__.
    module = name.split(".")[0]
    return "." in name and (module in sys.modules or importlib.util.find_spec(module) is not None)
