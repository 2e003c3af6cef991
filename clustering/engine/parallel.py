"""Blocks of work on a pool of threads, each of which lets Faiss use one thread.

A Faiss search on several threads splits its rows by their number, and a matrix product's bits depend on its shape. One
block on one thread always gives the same bits, whatever the other threads do.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import faiss

T = TypeVar("T")
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
