"""Restoring a module's state after a batch has been evaluated again."""

import copy
import functools
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
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
    buffers = _by_kind(module.buffers())
    copies = [[torch.empty_like(buffer) for buffer in of_kind] for of_kind in buffers]
    _copy(copies, buffers)
    try:
        yield
    finally:
        _copy(buffers, copies)
        for attributes, name, value, content in kept:
            _refill(value, content)
            attributes[name] = value


def _by_kind(buffers: Iterable[Tensor]) -> list[list[Tensor]]:
    """Return the buffers by type and device, so that each list is copied in one launch on a GPU."""
    kinds: dict[Any, list[Tensor]] = {}
    for buffer in buffers:
        if not buffer.is_inference():  # such a one cannot be written to while training
            kinds.setdefault((buffer.dtype, buffer.device), []).append(buffer.detach())
    return list(kinds.values())


def _copy(targets: list[list[Tensor]], sources: list[list[Tensor]]) -> None:
    for target, source in zip(targets, sources, strict=True):
        torch._foreach_copy_(target, source)


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
