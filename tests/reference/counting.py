"""The memory that tensors take at the same time, and the calls that copy to the host, counted on any device."""

import weakref
from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Live(TorchDispatchMode):
    """Counts the bytes of the storages that calls of torch create and that are alive.

    Attributes:
        now: Bytes.
        peak: The most so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor):
                self._known.add(id(value.untyped_storage()))
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and id(value.untyped_storage()) not in self._known:
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        self._known.add(id(storage))
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, id(storage), storage.nbytes())

    def _free(self, number: int, size: int) -> None:
        self.now -= size
        self._known.discard(number)


WAITS = ("item", "tolist", "cpu", "numpy", "nonzero", "__float__", "__int__", "__bool__", "__index__", "__format__")


class Waits(TorchFunctionMode):
    """Counts the calls that wait for a device by their names.

    Args:
        as_cuda: Let tensors say that they are on a GPU.

    Attributes:
        largest: Number of elements of the largest tensor that one of these calls copied to the host.
    """

    def __init__(self, as_cuda: bool = False) -> None:
        super().__init__()
        self.as_cuda, self.largest = as_cuda, 0
        self.counts: Counter[str] = Counter()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.as_cuda and function == torch.Tensor.is_cuda.__get__:  # type: ignore[attr-defined]  # a property
            return True
        if function.__name__ in WAITS:
            self.counts[function.__name__] += 1
            if function.__name__ != "nonzero":  # which leaves its result on the device
                self.largest = max(self.largest, args[0].numel())
        return function(*args, **(kwargs or {}))
