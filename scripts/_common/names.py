"""Short names of classes on the command line and in configuration files.

`--optimizer LAMB` means `optim.LAMB`, `--optimizer Adam` means `torch.optim.Adam`, `--optimizer Lion` means
`timm.optim.Lion`: ours before torch's before timm's. The key that a name is given for decides its kind.
"""

import difflib
import inspect
from collections.abc import Iterable
from enum import Enum
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import yaml
from jsonargparse import get_loader, set_dumper, set_loader

YAML_WITH_NAMES = "yaml_with_names"
"""The jsonargparse parser mode whose configuration files may use short names."""


class Kind(NamedTuple):
    """What an option's value is, its base class, and the modules that define its names, the first one first."""

    noun: str
    base: str
    modules: tuple[str, ...]


OPTIMIZER = Kind("optimizer", "torch.optim.Optimizer", ("optim", "torch.optim", "timm.optim"))
KINDS = {
    "optimizer": OPTIMIZER,
    "base_optimizer": OPTIMIZER,
    "lr_scheduler": Kind(
        "learning rate scheduler",
        "torch.optim.lr_scheduler.LRScheduler",
        ("lightning_modules", "torch.optim.lr_scheduler"),
    ),
    "data": Kind("data module", "pytorch_lightning.LightningDataModule", ("datamodules",)),
}


def known(key: str) -> dict[str, str]:
    """Return every short name that an option may have, with the import path that it stands for.

    Example:
        >>> known("optimizer")["LAMB"], known("optimizer")["Lion"]
        ('optim.LAMB', 'timm.optim.Lion')
    """
    if key == "activation":
        return import_module("activations").class_paths()  # it imports torch
    return {name: path for module in reversed(KINDS[key].modules) for name, path in _classes(module, key).items()}


@cache
def _classes(module: str, key: str) -> dict[str, str]:
    """The public classes of a kind in a module, by name."""
    path, _, base = KINDS[key].base.rpartition(".")
    members = vars(import_module(module))
    parent = getattr(import_module(path), base)
    return {
        name: f"{module}.{name}"
        for name, member in members.items()
        if inspect.isclass(member)
        and issubclass(member, parent)
        and not (member is parent or inspect.isabstract(member) or name.startswith("_"))
    }


@cache
def backbones() -> dict[str, str]:
    """Return our backbones by name; the classifier looks up any other name among timm's models."""
    path = "lightning_modules.backbones"
    members = vars(import_module(path))
    return {name: f"{path}.{name}" for name, member in members.items() if callable(member) and not name.startswith("_")}


def full_path(key: str, name: str) -> str:
    """Return the import path that `name` stands for under `key`.

    Raises:
        ValueError: If `name` is a bare name that nothing of that kind has.
    """
    if key == "backbone":
        return backbones().get(name, name)
    if key not in (*KINDS, "activation") or not name.isidentifier() or name in ("null", "None"):
        return name
    if key == "activation":
        return import_module("activations").class_path(name)
    for module in KINDS[key].modules:  # timm is imported only for a name that is neither ours nor torch's
        if name in _classes(module, key):
            return _classes(module, key)[name]
    raise ValueError(f"unknown {KINDS[key].noun} {name!r}: {nearest(name, known(key))}")


def nearest(name: str, names: Iterable[str]) -> str:
    """Return a clause with the names most similar to `name`."""
    folded = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower(), folded, n=5, cutoff=0.5)
    if close:
        return f"the nearest are {', '.join(folded[match] for match in close)}"
    return f"known are {', '.join(sorted(folded.values()))}"


def expand_config(node: Any) -> Any:
    """Return a configuration with import paths in place of short names."""
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


def read_config(text: str) -> Any:
    """Return what a configuration file holds, with import paths in place of short names and of moved paths."""
    config = get_loader("yaml")(text)
    if not isinstance(config, dict):
        return expand_config(config)
    from lightning_modules.paths import current_paths  # Lightning takes seconds, and most values are no dictionaries

    config = with_schedule(config)
    if "ckpt_path" in config:
        config.pop("weights_only", None)  # which train.py wrote, always null, when it had such an option
    if classifier_path(config) is not None:  # the command line has chosen the class already
        config["model"] = config["model"].get("init_args") or {}
    return expand_config(current_paths(config))


def with_schedule(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration whose `schedule: TEXT` is written as its `lr_scheduler`, which may be a text too."""
    from lightning_modules.schedule import as_factory, parse

    rest = {name: value for name, value in config.items() if name != "schedule"}
    text, made = config.get("schedule"), config.get("lr_scheduler")
    if text is None:
        return rest | {"lr_scheduler": as_factory(made)} if isinstance(made, str) else rest
    if made is not None:
        raise ValueError(f"schedule {text!r} and lr_scheduler exclude each other: give one")
    parse(text)
    return rest | {"lr_scheduler": as_factory(text)}


def classifier_path(config: Any) -> str | None:
    """Return the class that a configuration names for the model, or None for `ImageClassifier`."""
    model = config.get("model") if isinstance(config, dict) else None
    return model.get("class_path") if isinstance(model, dict) else None


class _Dumper(yaml.SafeDumper):
    """Writes the members of an enumeration, which are defaults of some of Lightning's callbacks, as their values."""


_Dumper.add_multi_representer(Enum, lambda dumper, one: dumper.represent_data(one.value))
set_loader(YAML_WITH_NAMES, read_config, exceptions=(yaml.YAMLError,))
set_dumper(YAML_WITH_NAMES, lambda config: yaml.dump(config, Dumper=_Dumper, sort_keys=False))
