"""Every activation by name: ours, torch's and timm's."""

import difflib
import importlib
import inspect
import sys
from types import ModuleType
from typing import Any

from torch import nn
from torch.nn.modules import activation as torch_activations

# In torch's list, but no function of one tensor to a tensor of the same shape, element by element.
_NOT_ELEMENTWISE = {"GLU", "LogSoftmax", "MultiheadAttention", "Softmax", "Softmax2d", "Softmin"}


def create(name: str, **kwargs: Any) -> nn.Module:
    """Make an activation module by name.

    Args:
        name: A name of :func:`names`; case, ``_`` and ``-`` do not matter. Where two packages have the same name, ours
            comes before torch's and torch's before timm's.
        **kwargs: Passed to the constructor.

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
    known = _classes()
    key = name.lower().replace("_", "").replace("-", "")
    if key not in known:
        near = difflib.get_close_matches(key, known, n=5, cutoff=0.5)
        hint = f"the nearest are {', '.join(near)}" if near else "activations.names() lists all"
        raise ValueError(f"there is no activation {name!r}: {hint}")
    return known[key](**kwargs)


def names() -> list[str]:
    """The names :func:`create` knows, sorted.

    Example:
        >>> {"spocu", "lisht", "gelu", "gelutanh"} <= set(names())
        True
    """
    return sorted(_classes())


def _classes() -> dict[str, type[nn.Module]]:
    """The module classes by lower-case name."""
    ours = _modules_in(sys.modules[__package__], __package__)
    torchs = [getattr(torch_activations, name) for name in torch_activations.__all__ if name not in _NOT_ELEMENTWISE]
    # Imported here: timm takes seconds, and only names need it.
    timms = _modules_in(importlib.import_module("timm.layers.activations"), "timm.layers.activations")
    found: dict[str, type[nn.Module]] = {}
    for kind in (*ours, *torchs, nn.Identity, *timms):
        found.setdefault(kind.__name__.lower(), kind)
    return found


def _modules_in(namespace: ModuleType, home: str) -> list[type[nn.Module]]:
    """The module classes of ``namespace`` that are defined in ``home``."""
    members = vars(namespace).values()
    return [m for m in members if inspect.isclass(m) and issubclass(m, nn.Module) and m.__module__.startswith(home)]
