"""Every activation by name: ours, torch's and timm's."""

import difflib
import importlib
import inspect
from typing import Any

from torch import nn
from torch.nn.modules import activation as torch_activations

# These are in torch's list but do not map a tensor to one of the same shape, element by element.
_NOT_ELEMENTWISE = {"GLU", "LogSoftmax", "MultiheadAttention", "Softmax", "Softmax2d", "Softmin"}


def create(name: str, **kwargs: Any) -> nn.Module:
    """Create an activation module by name.

    Args:
        name: One of `names()`; case, `_` and `-` are ignored. If two packages have the same name, ours comes before
            torch's and torch's before timm's.
        **kwargs: Arguments of the constructor.

    Returns:
        A new module.

    Raises:
        ValueError: If there is no such activation; the message lists the nearest names.

    Example:
        >>> create("spocu", c=1.0)
        SPOCU(alpha=3.0937, beta=0.6653, gamma=4.437, c=1)
        >>> create("leaky_relu", negative_slope=0.1)
        LeakyReLU(negative_slope=0.1)
    """
    home, _, kind = class_path(name).rpartition(".")
    module: nn.Module = getattr(importlib.import_module(home), kind)(**kwargs)
    return module


def names() -> list[str]:
    """Return the names that `create` accepts, in lower case and sorted.

    Example:
        >>> {"spocu", "lisht", "gelu", "gelutanh"} <= set(names())
        True
    """
    return sorted(_paths(timm=True))


def class_path(name: str) -> str:
    """Return the public import path of the class that `create(name)` instantiates.

    timm is imported only if the name is neither ours nor torch's. The argument and the errors are those of `create`.

    Example:
        >>> class_path("SPOCU"), class_path("leaky_relu"), class_path("GELUTanh")
        ('activations.SPOCU', 'torch.nn.LeakyReLU', 'timm.layers.activations.GELUTanh')
    """
    key = name.lower().replace("_", "").replace("-", "")
    known = _paths(timm=False)
    if key not in known:
        known = _paths(timm=True)
    if key not in known:
        near = difflib.get_close_matches(key, known, n=5, cutoff=0.5)
        hint = f"the nearest are {', '.join(near)}" if near else "activations.names() lists all"
        raise ValueError(f"there is no activation {name!r}: {hint}")
    return known[key]


def class_paths() -> dict[str, str]:
    """Return the import path of every activation by the name of its class, such as `LeakyReLU`; this imports timm."""
    return {path.rpartition(".")[2]: path for path in _paths(timm=True).values()}


def _paths(timm: bool) -> dict[str, str]:
    """Return the import paths of ours and torch's (and timm's) by lower-case name."""
    torchs = {*torch_activations.__all__, "Identity"} - _NOT_ELEMENTWISE
    known = {name.lower(): f"torch.nn.{name}" for name in torchs} | _defined_in(str(__package__))
    return _defined_in("timm.layers.activations") | known if timm else known


def _defined_in(home: str) -> dict[str, str]:
    """Return the import paths, by lower-case name, of the public module classes that `home` defines and exports."""
    return {
        name.lower(): f"{home}.{name}"
        for name, member in vars(importlib.import_module(home)).items()  # timm takes seconds
        if inspect.isclass(member) and issubclass(member, nn.Module) and member.__module__.startswith(home)
    }
