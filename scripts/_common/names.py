"""Short names of classes on the command line and in configuration files.

``--optimizer LAMB`` means ``optim.LAMB``, ``--optimizer Adam`` means ``torch.optim.Adam``, ``--optimizer Lion`` means
``timm.optim.Lion``: ours before torch's before timm's. What a name stands for follows from the key it is given for.
"""

import difflib
import inspect
from collections.abc import Callable, Iterable
from functools import cache
from types import ModuleType
from typing import Any

import timm.layers.activations
import timm.optim
import torch
import yaml
from jsonargparse import get_loader, set_dumper, set_loader
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

import activations
import datamodules
import lightning_modules.backbones
import optim

YAML_WITH_NAMES = "yaml_with_names"
"""The jsonargparse parser mode whose configuration files may use short names."""


def _classes(module: ModuleType, base: type, names: Iterable[str] | None = None) -> dict[str, str]:
    """The public subclasses of ``base`` in ``module``, as name -> import path."""
    found = {name: getattr(module, name) for name in (vars(module) if names is None else names)}
    return {
        name: f"{module.__name__}.{name}"
        for name, member in found.items()
        if inspect.isclass(member) and issubclass(member, base) and member is not base and not name.startswith("_")
    }


@cache
def optimizers() -> dict[str, str]:
    """Every optimizer by its short name."""
    base = torch.optim.Optimizer
    return _classes(timm.optim, base) | _classes(torch.optim, base) | _classes(optim, base)


@cache
def lr_schedulers() -> dict[str, str]:
    """Every learning rate scheduler by its short name."""
    return _classes(torch.optim.lr_scheduler, LRScheduler)


@cache
def activation_modules() -> dict[str, str]:
    """Every activation by its short name."""
    names = set(nn.modules.activation.__all__) - {"MultiheadAttention"} | {"Identity"}
    torchs = _classes(nn, nn.Module, sorted(names))
    return _classes(timm.layers.activations, nn.Module) | torchs | _classes(activations, nn.Module)


@cache
def backbones() -> dict[str, str]:
    """Our backbones by name; any other name is looked up among timm's models by the classifier."""
    module = lightning_modules.backbones
    public = {name: member for name, member in vars(module).items() if not name.startswith("_") and callable(member)}
    return {name: f"{module.__name__}.{name}" for name in public}


@cache
def data_modules() -> dict[str, str]:
    """Every data module by its short name."""
    return {name: f"datamodules.{name}" for name in vars(datamodules) if name.endswith("DataModule")}


KINDS: dict[str, tuple[str, Callable[[], dict[str, str]]]] = {
    "optimizer": ("optimizer", optimizers),
    "base_optimizer": ("optimizer", optimizers),
    "lr_scheduler": ("learning rate scheduler", lr_schedulers),
    "activation": ("activation", activation_modules),
    "data": ("data module", data_modules),
}
"""For each key: what its value is, and the names that it may have."""


def full_path(key: str, name: str) -> str:
    """The import path that ``name`` stands for under ``key``.

    Raises:
        ValueError: If ``name`` is a bare name that nothing of that kind has.
    """
    if key == "backbone":
        return backbones().get(name, name)
    if key not in KINDS or not name.isidentifier() or name in ("null", "None"):
        return name
    kind, table = KINDS[key]
    if name not in table():
        raise ValueError(f"unknown {kind} {name!r}: {nearest(name, table())}")
    return table()[name]


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence with the known names that look most like ``name``."""
    folded = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), folded, n=5, cutoff=0.5)
    return (
        f"the nearest are {', '.join(folded[c] for c in close)}" if close else f"known are {', '.join(sorted(known))}"
    )


def expand_arguments(arguments: list[str]) -> list[str]:
    """Put full paths for the short names in a command line, in both forms, ``--key name`` and ``--key=name``."""
    expanded: list[str] = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        previous = expanded[-1] if expanded else ""
        if option.startswith("--") and equals:
            expanded.append(f"{option}={full_path(_key(option), value)}")
        elif previous.startswith("--") and "=" not in previous:
            expanded.append(full_path(_key(previous), argument))
        else:
            expanded.append(argument)
    return expanded


def _key(option: str) -> str:
    parts = [part for part in option.removeprefix("--").split(".") if part not in ("class_path", "help", "init_args")]
    return parts[-1] if parts else ""


def expand_config(node: Any) -> Any:
    """Put full paths for the short names in a configuration."""
    if isinstance(node, list):
        return [expand_config(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: _expand_value(key, expand_config(value)) for key, value in node.items()}


def _expand_value(key: str, value: Any) -> Any:
    if isinstance(value, str):
        return full_path(key, value)
    if isinstance(value, dict) and isinstance(value.get("class_path"), str):
        return value | {"class_path": full_path(key, value["class_path"])}
    return value


def _load(text: str) -> Any:
    return expand_config(get_loader("yaml")(text))


set_loader(YAML_WITH_NAMES, _load, exceptions=(yaml.YAMLError,))
set_dumper(YAML_WITH_NAMES, lambda config: yaml.safe_dump(config, sort_keys=False))
