"""Threads, GPUs and processes that share the work.

Faiss splits a search among its threads by their number, and the bits of a matrix product depend on its shape. `Workers`
therefore runs each block on one thread, with Faiss limited to that thread: the bits of a block never change. `Exchange`
is the interface between processes that each hold a part of the rows; it is a no-op here, where there is one process,
and `clustering.shards.Shards` is the distributed one. Faiss is imported by the functions that use it: `import
clustering` does not need it.
"""

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from .data import Array

T = TypeVar("T")
R = TypeVar("R")


class Exchange:
    """One process, which holds all rows."""

    rank, size = 0, 1

    def add(self, numbers: Array) -> Array:
        """Return the sum of an array over the processes; its entries are on a grid, so the order does not matter."""
        return numbers

    def collect(self, items: list[T]) -> list[T]:
        """Return the items of all processes, in the order of the processes."""
        return items

    def first_row(self, count: int) -> int:
        """Return the number of this process's first row, given that it holds `count` rows."""
        return 0


class Gpus(NamedTuple):
    """GPUs and their Faiss resources, which serve one thread of the process at a time."""

    numbers: list[int]
    resources: list[Any]
    lock: threading.Lock


_lock = threading.Lock()


def open_gpus(numbers: Sequence[int]) -> Gpus | None:
    """Return Faiss's resources on the given GPUs, which are allocated once; None without any."""
    return Gpus(list(numbers), [_resources(number) for number in numbers], _lock) if numbers else None


@functools.cache
def _resources(number: int) -> Any:
    """Allocate the resources of a GPU: 1.5 GiB of its memory, for the rest of the process."""
    import faiss

    return faiss.StandardGpuResources()


class Workers:
    """Maps a function over items, on several threads or on the calling one.

    Args:
        count: Number of threads; by default as many as Faiss would use (`OMP_NUM_THREADS`). With 1 the calling thread
            does the work.
    """

    def __init__(self, count: int | None = None) -> None:
        self._count = count
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield the results in the order of the items, computing only a few items ahead."""
        import faiss

        if self._count is None:
            self._count = faiss.omp_get_max_threads()
        if self._count == 1:
            with _single_threaded():
                for item in items:
                    yield function(item)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._count, "clustering", faiss.omp_set_num_threads, (1,))
        ahead: deque[Future[R]] = deque()
        try:
            for item in items:
                ahead.append(self._pool.submit(function, item))
                if len(ahead) > 2 * self._count:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
            for future in ahead:
                if not future.cancelled():
                    future.exception()  # wait: no thread may still be writing when the caller continues


class Inline(Workers):
    """The calling thread alone, for work that a GPU does."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield the results in the order of the items."""
        return map(function, items)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Limit Faiss to one thread when it is called from this one."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
