"""Blocks of work on a pool of threads, each of which lets Faiss use one thread.

A Faiss search on several threads splits its rows by their number, and a matrix product's bits depend on its shape. One
block on one thread always gives the same bits, whatever the other threads do.

Where Faiss searches: the CPU, one GPU, or several.

What processes that each hold a part of the data tell one another: nothing here, where there is only one.
"""

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import faiss
import numpy.typing as npt

T = TypeVar("T")


class Exchange:
    """One process, which has all the data."""

    rank, size = 0, 1

    def add(self, numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The sum of an array over the processes; the numbers lie on a grid, so its order does not matter."""
        return numbers

    def collect(self, items: list[T]) -> list[T]:
        """The items of all processes, in the order of the processes."""
        return items

    def first_row(self, count: int) -> int:
        """The number of this process's first row, where each holds ``count`` of its own."""
        return 0


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


R = TypeVar("R")


class Workers:
    """Runs a function over items, on several threads or on this one.

    Args:
        count: Threads; as many as Faiss would use (``OMP_NUM_THREADS``) by default. One means the calling thread.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = count or faiss.omp_get_max_threads()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """The results in the order of the items, with only a few items ahead of the one that is awaited."""
        if self.count == 1:
            with single_threaded():
                for item in items:
                    yield function(item)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.count, "clustering", faiss.omp_set_num_threads, (1,))
        ahead: deque[Future[R]] = deque()
        try:
            for item in items:
                ahead.append(self._pool.submit(function, item))
                if len(ahead) > 2 * self.count:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
            for future in ahead:
                if not future.cancelled():
                    future.exception()  # nothing of it may still be writing when the caller goes on


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let Faiss use one thread when it is called from this one."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
