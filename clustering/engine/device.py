"""Where Faiss searches: the CPU, one GPU, or several."""

import re
import threading
from typing import Any, NamedTuple

import faiss


class Gpu(NamedTuple):
    """A GPU and what Faiss keeps for it, which serves one thread at a time."""

    number: int
    resources: Any
    lock: threading.Lock


def gpus(device: str) -> list[int]:
    """The numbers of the GPUs that ``device`` names; none for the CPU.

    Args:
        device: ``"auto"`` (the first GPU, if there is one), ``"cpu"``, ``"cuda"`` (the first) or ``"cuda:0,1"``.

    Raises:
        ValueError: For another text, and for a GPU that is not there.
    """
    there = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    if device == "cpu" or (device == "auto" and not there):
        return []
    match = re.fullmatch(r"cuda(?::(\d+(?:,\d+)*))?", device) if isinstance(device, str) else None
    if match is None and device != "auto":
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda' or like 'cuda:0,1', got {device!r}")
    asked = [int(number) for number in match[1].split(",")] if match and match[1] else [0]
    missing = [number for number in asked if number >= there]
    if missing:
        raise ValueError(f"device is {device!r}, but Faiss finds {there} GPUs here: say device='cpu' or 'auto'")
    return list(dict.fromkeys(asked))


def resources(numbers: list[int]) -> tuple[Gpu, ...]:
    """What Faiss needs for its indexes on the given GPUs."""
    return tuple(Gpu(number, faiss.StandardGpuResources(), threading.Lock()) for number in numbers)
