"""A transform of the user's own, whose random numbers are a function of seed, epoch and the batch's first position."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

Transform = Callable[[Tensor], Tensor]


@contextmanager
def seeded(key: tuple[int, ...], device: torch.device) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python by a key, and put their states back afterwards.

    >>> with seeded((0, 1), torch.device("cpu")):
    ...     first = torch.rand(1)
    >>> with seeded((0, 1), torch.device("cpu")):
    ...     print(torch.rand(1) == first)
    tensor([True])
    """
    on_cuda = device.type == "cuda"
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    there = torch.cuda.get_rng_state(device) if on_cuda else None
    words = np.random.SeedSequence(key).generate_state(4, np.uint32).tolist()
    seed = words[0] << 31 | words[1] >> 1
    try:
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        np.random.seed(words[2])
        random.seed(words[3])
        yield
    finally:
        torch.set_rng_state(states[0])
        if there is not None:
            torch.cuda.set_rng_state(there, device)
        np.random.set_state(states[1])
        random.setstate(states[2])


def transformed(transform: Transform, images: Tensor, key: tuple[int, ...]) -> Tensor:
    """Return what a transform makes of a batch, float `[B, C, H, W]`.

    Raises:
        ValueError: If that is not a batch of as many examples.
    """
    with seeded(key, images.device), torch.no_grad():
        result = transform(images)
    if not isinstance(result, Tensor) or not result.is_floating_point() or result.shape[:1] != images.shape[:1]:
        found = f"{result.dtype} {[*result.shape]}" if isinstance(result, Tensor) else type(result).__name__
        raise ValueError(f"transform must return a float tensor of {len(images)} images, found {found}")
    return result
