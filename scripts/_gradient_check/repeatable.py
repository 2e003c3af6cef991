"""Calls of a module that all return the same: random numbers, buffers and inputs are as before the first call."""

import dataclasses
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Repeatable:
    """A function of copies of inputs, whose random numbers are seeded and whose module's buffers are restored.

    Args:
        function: The function.
        module: The module that it is, or None.
        positional: Inputs by position.
        named: Inputs by name.
        seed: Seed of torch's, numpy's and Python's random numbers in each call.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        module: nn.Module | None,
        positional: Iterable[Tensor],
        named: Mapping[str, Tensor],
        seed: int,
    ) -> None:
        self.function, self.positional, self.named, self.seed = function, tuple(positional), dict(named), seed
        self.buffers = [(one, one.detach().clone()) for one in module.buffers()] if module is not None else []
        self.random = True  # until a call has drawn no number: seeding takes longer than a small module

    def __call__(self) -> Any:
        """Return the output."""
        with torch.no_grad():
            for buffer, before in self.buffers:
                buffer.copy_(before)
        if not self.random:
            return self._called()
        with seeded(self.seed):
            before_call = _random_states()
            output = self._called()
            self.random = _random_states() != before_call
            return output

    def _called(self) -> Any:
        # Of clones, since a function may change its inputs in place, which autograd forbids for leaves.
        return self.function(
            *(one.clone() for one in self.positional), **{name: one.clone() for name, one in self.named.items()}
        )


def _random_states() -> tuple[Any, ...]:
    return random.getstate(), torch.get_rng_state().tolist(), str(np.random.get_state())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's, numpy's and Python's random numbers, and restore them."""
    state = random.getstate(), np.random.get_state()  # which somebody's module may use
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(state[0])
            np.random.set_state(state[1])


def tensors_in(output: Any, depth: int = 20) -> list[Tensor]:
    """Return the tensors of an output in their order: of tuples, lists, dictionaries and data classes.

    Example:
        >>> [one.item() for one in tensors_in((torch.tensor(1), {"a": [torch.tensor(2), None, "text"]}))]
        [1, 2]
    """
    if isinstance(output, Tensor):
        return [output.to_dense() if output.layout != torch.strided else output]
    if depth == 0:
        return []
    if isinstance(output, Mapping):
        return [one for value in output.values() for one in tensors_in(value, depth - 1)]
    if isinstance(output, tuple | list):
        return [one for value in output for one in tensors_in(value, depth - 1)]
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return [one for part in dataclasses.fields(output) for one in tensors_in(getattr(output, part.name), depth - 1)]
    return []


def floating(output: Any) -> list[Tensor]:
    """Return the floating point tensors of an output as real ones; a complex one as its real and imaginary parts."""
    numbers = [one for one in tensors_in(output) if one.is_floating_point() or one.is_complex()]
    return [torch.view_as_real(one.resolve_conj()) if one.is_complex() else one for one in numbers]
