"""Sums over many samples, made in pieces.

On a CPU a piece is so small that its temporaries stay in the cache and that torch runs each operation on one thread;
the pieces are shared among as many threads as torch has. That is several times as fast as whole-tensor operations, and,
where other programs use the cores too, does not wait for the slowest thread in each operation.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

Piece = tuple[Tensor, ...]
Result = TypeVar("Result")

# torch splits operations among threads from 32,768 elements on.
_CHUNK = {"cpu": (1 << 15) - 1}
_CHUNK_ELSEWHERE = 1 << 24
_WORTH_THREADS = 16  # pieces


def accumulation_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on the devices that have none (Apple's MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64


def pieces(*tensors: Tensor) -> list[Piece]:
    """Return tensors of equal length in pieces that are quick to work on, by the size of the first one's rows."""
    first = tensors[0]
    rows = max(1, _CHUNK.get(first.device.type, _CHUNK_ELSEWHERE) // max(1, first[:1].numel()))
    return list(zip(*(tensor.split(rows) for tensor in tensors), strict=True))


def shared(work: Callable[[list[Piece]], Result], *tensors: Tensor) -> list[Result]:
    """Return what ``work`` makes of each thread's share of the pieces, in the order of the samples."""
    parts = pieces(*tensors)
    on_cpu = tensors[0].device.type == "cpu"
    workers = torch.get_num_threads() if on_cpu and len(parts) >= _WORTH_THREADS else 1
    if workers == 1:
        return [work(parts)]
    ends = [len(parts) * worker // workers for worker in range(workers + 1)]
    shares = [parts[begin:end] for begin, end in pairwise(ends) if end > begin]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, shares))


def sum_over(function: Callable[[Tensor, Tensor], Tensor], preds: Tensor, target: Tensor) -> Tensor:
    """Return the sum of ``function(preds, target)`` over pieces of the samples, of which there is at least one."""

    @torch.no_grad()  # which is a thread's own setting
    def total(parts: list[Piece]) -> Tensor:
        result = function(*parts[0])
        for part in parts[1:]:
            result += function(*part)
        return result

    return torch.stack(shared(total, preds, target)).sum(dim=0)
