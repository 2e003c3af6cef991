import threading

import faiss
import numpy as np
import pytest

from clustering.engine import parallel
from clustering.engine.parallel import Exchange, Workers


@pytest.mark.parametrize("count", [1, 2, 3])
def test_map_keeps_the_order(count):
    with Workers(count) as workers:
        for _ in range(2):
            assert list(workers.map(lambda i: i * i, range(50))) == [i * i for i in range(50)]


def test_one_worker_is_the_calling_thread_and_faiss_uses_one():
    before = faiss.omp_get_max_threads()
    seen = list(Workers(1).map(lambda _: (threading.current_thread(), faiss.omp_get_max_threads()), range(2)))
    assert seen == [(threading.current_thread(), 1)] * 2
    assert faiss.omp_get_max_threads() == before


def test_several_workers_are_other_threads_on_which_faiss_uses_one():
    with Workers(2) as workers:
        seen = list(workers.map(lambda _: (threading.current_thread(), faiss.omp_get_max_threads()), range(9)))
    assert threading.current_thread() not in [thread for thread, _ in seen]
    assert {threads for _, threads in seen} == {1}


def test_only_a_few_items_are_read_ahead():
    read = []

    def items():
        for i in range(100):
            read.append(i)
            yield i

    with Workers(2) as workers:
        results = workers.map(lambda i: i, items())
        assert next(results) == 0
        assert len(read) <= 2 * 2 + 1


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_reaches_the_caller_when_nothing_runs_any_more(count):
    running = set()

    def work(i):
        running.add(i)
        try:
            if i == 3:
                raise ArithmeticError("three")
        finally:
            running.discard(i)

    with Workers(count) as workers:
        with pytest.raises(ArithmeticError, match="three"):
            list(workers.map(work, range(10)))
        assert not running
        assert list(workers.map(abs, [-1])) == [1]


def test_a_single_process_exchanges_nothing():
    exchange = Exchange()
    assert (exchange.rank, exchange.size, exchange.first_row(7)) == (0, 1, 0)
    assert exchange.collect([1, 2]) == [1, 2]
    np.testing.assert_array_equal(exchange.add(np.ones(2)), np.ones(2))


def test_the_module_does_not_load_faiss():
    assert not hasattr(parallel, "faiss")
