"""Restoring a module's state after a batch has been evaluated again."""

import copy
import functools
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytorch_lightning import LightningModule
from torch import Tensor
from torchmetrics import Metric

_CONTAINERS = (list, deque, dict, set)
_RESTORED = (bool, int, float, complex, str, type(None), Tensor, *_CONTAINERS)


@contextmanager
def restored(module: LightningModule) -> Iterator[None]:
    """Restore a module's state at the end of the `with` block, except for parameters and gradients.

    Restored are the buffers of all layers, and the attributes of the module itself and of its torchmetrics objects that
    are numbers, strings, tensors, lists, dictionaries or sets: the same objects, with the content that they had.

    >>> module = LightningModule()
    >>> module.seen, module.steps = [1], 0
    >>> with restored(module):
    ...     module.seen.append(2)
    ...     module.steps += 1
    >>> module.seen, module.steps
    ([1], 0)
    """
    kept = [
        (attributes, name, value, _content(value))
        for attributes in (vars(module), *(vars(part) for part in module.modules() if isinstance(part, Metric)))
        for name, value in attributes.items()
        if isinstance(value, _RESTORED) and not (attributes is vars(module) and name in _names_of_lightning())
    ]
    buffers = [(buffer, _content(buffer)) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, content in buffers:
            _refill(buffer, content)
        for attributes, name, value, content in kept:
            _refill(value, content)
            attributes[name] = value


@functools.cache
def _names_of_lightning() -> frozenset[str]:
    return frozenset(vars(LightningModule()))


def _content(value: Any) -> Any:
    if isinstance(value, Tensor):
        # An inference tensor cannot be written to while training.
        return value if value.is_inference() else value.detach().clone()
    return copy.copy(value) if isinstance(value, _CONTAINERS) else value


def _refill(value: Any, content: Any) -> None:
    if isinstance(value, Tensor) and not value.is_inference():
        value.detach().copy_(content)
    elif isinstance(value, _CONTAINERS):
        value.clear()
        (value.extend if isinstance(value, (list, deque)) else value.update)(content)
