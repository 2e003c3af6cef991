"""K-means over the processes of torch.distributed, each of which holds a part of the rows.

One iteration exchanges the sums and counts of the clusters and, for the objective, one number per block. Shards begin
at block boundaries and sums are on a common grid, so centres and labels are bit for bit those of one process.
"""

from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from .engine import BLOCK, Exchange

T = TypeVar("T")


def shard_bounds(rows: int, rank: int, size: int) -> tuple[int, int]:
    """Return the first row of a process's share of `rows` and the row after its last, both at block boundaries.

    Args:
        rows: Number of rows of the whole data.
        rank: Rank of the process.
        size: Number of processes.

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
        rows: Number of rows of this process.

    Raises:
        ValueError: Without a process group, or if a shard other than the last does not end at a block boundary.
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
            shards = ", ".join(uneven)
            raise ValueError(f"every shard but the last must have a multiple of {BLOCK:,} rows, found {shards}")

    def add(self, numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the sum of an array over the processes."""
        total = torch.from_numpy(np.ascontiguousarray(numbers).reshape(numbers.shape)).to(self._device)  # also 0-d
        dist.all_reduce(total)
        return total.cpu().numpy()

    def collect(self, items: list[T]) -> list[T]:
        """Return the items of all processes, in the order of the processes."""
        lists: list[Any] = [None] * self.size
        dist.all_gather_object(lists, items)
        return [item for part in lists for item in part]

    def first_row(self, count: int) -> int:
        """Return the number of this process's first row."""
        return self._first
