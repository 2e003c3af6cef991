"""Restoring a module's state after a batch has been evaluated again, or has only been tried."""

import copy
import functools
import random
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
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


@contextmanager
def unchanged(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Restore a network and the random numbers at the end of the `with` block; refuse what was changed in Python.

    Buffers, the numbers, strings, tensors and containers that are attributes of any of its modules, and the states of
    the generators of torch, numpy and Python are then as before. Buffers, and random numbers on a GPU, may change.

    Args:
        network: The network.
        device: Its device.

    Raises:
        ValueError: If its attributes or a generator on the CPU have changed, although they are restored.
    """
    kept = [
        (f"{name}.{key}".lstrip("."), vars(module), key, value, _content(value))
        for name, module in network.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, _RESTORED)
    ]
    buffers = _by_kind(network.buffers())
    copies = [[buffer.clone() for buffer in of_kind] for of_kind in buffers]
    numbers, changed = _random_numbers(), []
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
            if _random_numbers() != numbers:
                changed.append("random numbers on the CPU")
        finally:
            random.setstate(numbers[0])
            np.random.set_state(("MT19937", np.frombuffer(numbers[1], np.uint32), *numbers[2]))
            for name, attributes, key, value, content in kept:
                if attributes.get(key) is not value or _has_changed(value, content):
                    changed.append(name)
                _refill(value, content)
                attributes[key] = value
            _copy(buffers, copies)
    if changed:
        raise ValueError(f"its forward pass changes {changed[0]}, which a replay does not repeat")


def _random_numbers() -> tuple[Any, bytes, Any, bytes]:
    _, words, *rest = np.random.get_state()
    return random.getstate(), np.asarray(words).tobytes(), rest, torch.get_rng_state().numpy().tobytes()


def _has_changed(value: Any, content: Any) -> bool:
    """Return whether a container holds other objects than its copy."""
    if isinstance(value, dict):
        return value.keys() != content.keys() or any(value[key] is not content[key] for key in value)
    if isinstance(value, (list, deque)):
        return len(value) != len(content) or any(a is not b for a, b in zip(value, content, strict=True))
    return isinstance(value, set) and value != content


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
