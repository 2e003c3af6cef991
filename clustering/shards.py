"""K-means over processes of torch.distributed, each of which holds a part of the rows.

What travels in an iteration is the sums and counts of the clusters and one number a block for the objective. Shards
begin on block borders and sums lie on a common grid, so that centres and labels are, bit for bit, those of one process.
"""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from .engine.data import BLOCK
from .engine.parallel import Exchange

T = TypeVar("T")


def shard_bounds(rows: int, rank: int, size: int) -> tuple[int, int]:
    """The first row of a process's even share of ``rows``, and the row after its last; both on block borders.

    Args:
        rows: Rows of the whole data.
        rank: The process's number.
        size: How many processes there are.

    Example:
        >>> [shard_bounds(40_000, rank, 2) for rank in range(2)]
        [(0, 32768), (32768, 40000)]
    """
    blocks = -(-rows // BLOCK)
    cuts = [min(rows, BLOCK * (-(-blocks * part // size))) for part in (rank, rank + 1)]
    return cuts[0], cuts[1]


class Shards(Exchange):
    """The processes of torch.distributed's default group.

    Args:
        rows: Rows of this process.

    Raises:
        ValueError: If there is no group, or a shard other than the last does not end on a block border.
    """

    def __init__(self, rows: int) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise ValueError("there is no process group: call torch.distributed.init_process_group first")
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        counts: list[int] = self.collect([rows])
        self._first = sum(counts[: self.rank])
        last = max((i for i, count in enumerate(counts) if count), default=0)
        uneven = [f"{count} rows on rank {i}" for i, count in enumerate(counts[:last]) if count % BLOCK]
        if uneven:
            raise ValueError(f"every shard but the last must be a multiple of {BLOCK:,} rows, got {', '.join(uneven)}")

    def add(self, numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The sum of an array over the processes."""
        total = torch.from_numpy(np.ascontiguousarray(numbers)).to(self._device)
        dist.all_reduce(total)
        return total.cpu().numpy()

    def collect(self, items: list[T]) -> list[T]:
        """The items of all processes, in the order of the processes."""
        lists: list[Any] = [None] * self.size
        dist.all_gather_object(lists, items)
        return [item for part in lists for item in part]

    def first_row(self, count: int) -> int:
        """The number of this process's first row."""
        return self._first
