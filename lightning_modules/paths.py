"""Import paths as checkpoints hold them: the shortest public one, so that moving a file breaks no checkpoint."""

import functools
import importlib
import importlib.util
import inspect
import sys
import warnings
from typing import Any

OURS = ("activations", "optim", "datamodules", "lightning_modules", "clustering", "evaluation")
"""The packages of this project."""


def load(path: str) -> Any:
    """Import the object at a dotted path; return None if there is none.

    Raises:
        ImportError: If a module on the path exists and cannot be imported.

    >>> load("torch.nn.ReLU").__name__, load("torch.nn.Nothing")
    ('ReLU', None)
    """
    parts = path.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    for depth in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:depth])
        try:
            value = _attribute(importlib.import_module(module), ".".join(parts[depth:]))
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            continue
        if value is not None:
            return value
    return None


def importable(path: str) -> bool:
    """Return whether importing a dotted path would import a module, without running one.

    >>> importable("torch.nn.ReLU"), importable("resnet18.a1_in1k")
    (True, False)
    """
    top, *rest = path.split(".")
    if not rest or not all(part.isidentifier() for part in (top, *rest)):
        return False
    if top in sys.modules:
        is_folder = getattr(sys.modules[top], "__file__", None) is None and hasattr(sys.modules[top], "__path__")
    else:
        spec = importlib.util.find_spec(top)  # which refuses some imported modules, such as a script's __main__
        if spec is None:
            return False
        is_folder = spec.origin is None
    # Any folder on the search path counts as a package, so its content decides.
    return not is_folder or importlib.util.find_spec(f"{top}.{rest[0]}") is not None


def public_path(value: Any) -> str | None:
    """Return the shortest import path of a class or function, or None if it cannot be imported by its name.

    >>> from torch import nn
    >>> public_path(nn.ReLU)
    'torch.nn.ReLU'
    """
    name, parents = getattr(value, "__qualname__", ""), (getattr(value, "__module__", None) or "").split(".")
    modules = [".".join(parents[:depth]) for depth in range(1, len(parents) + 1)]
    return next((f"{module}.{name}" for module in modules if _attribute(sys.modules.get(module), name) is value), None)


def current_path(path: str) -> str:
    """Return the path at which an object can be imported today, with a warning if it has moved; see `find_path`."""
    found = find_path(path)
    if found != path:
        warnings.warn(f"{path} has moved: read as {found}", stacklevel=2)
    return found


def find_path(path: str) -> str:
    """Return the path at which an object of this project can be imported today.

    If there is nothing at `package.inner.Name`, `Name` is looked up in `package.inner`, in `package`, and in the
    imported subpackages of `package`. Without a match, and in other projects, the path is returned as it is.

    >>> find_path("torch.nn.modules.gone.ReLU"), find_path("optim.gone.LAMB")
    ('torch.nn.modules.gone.ReLU', 'optim.LAMB')
    """
    package, name = path.partition(".")[0], path.rpartition(".")[2]
    if package not in OURS or package == name or _load_or_none(path) is not None:
        return path
    parents = [path.rsplit(".", depth)[0] for depth in range(2, path.count(".") + 1)]
    inside = sorted((m for m in sys.modules if m.startswith(f"{package}.")), key=lambda m: m.count("."))
    for module in map(sys.modules.get, [*parents, *inside]):
        value = getattr(module, name, None) if hasattr(module, "__path__") else None
        buildable = inspect.isclass(value) or inspect.isfunction(value)
        if buildable and value.__module__.split(".")[0] == package and (new := public_path(value)):
            return new
    return path


def current_paths(config: Any) -> Any:
    """Return a configuration with `current_path` of every `class_path` in it.

    >>> current_paths({"data": {"class_path": "torch.nn.ReLU", "init_args": {"inplace": True}}})
    {'data': {'class_path': 'torch.nn.ReLU', 'init_args': {'inplace': True}}}
    """
    if isinstance(config, list):
        return [current_paths(item) for item in config]
    if not isinstance(config, dict):
        return config
    return {
        key: current_path(value) if key == "class_path" and isinstance(value, str) else current_paths(value)
        for key, value in config.items()
    }


def _load_or_none(path: str) -> Any:
    try:
        return load(path)
    except ImportError:  # whoever needs the object reports it
        return None


def _attribute(holder: Any, dotted: str) -> Any:
    return functools.reduce(lambda at, part: getattr(at, part, None), dotted.split("."), holder)
