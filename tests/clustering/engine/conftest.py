"""Problems for the parts of the engine, and two processes simulated by two threads."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from clustering.engine.coordinates import Coordinates
from clustering.engine.data import ArraySource, OutputType
from clustering.engine.parallel import Exchange, Workers
from clustering.engine.problem import Problem


def _problem(rows, weights=None, metric="euclidean", centred=False, **changes):
    coordinates = Coordinates.around(rows, metric) if centred else Coordinates(metric)
    problem = Problem(
        ArraySource(rows), OutputType.of(rows), weights=weights, coordinates=coordinates, workers=Workers(2),
        bound=coordinates.bound(float(rows.min()), float(rows.max())),
        total=float(len(rows) if weights is None else weights.sum()),
    )  # fmt: skip
    return replace(problem, **changes)


@pytest.fixture
def make_problem():
    return _problem


@pytest.fixture(
    params=[
        pytest.param(None, id="faiss"),
        pytest.param("cpu", id="torch"),
        pytest.param(
            "cuda:0", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
        ),
    ]
)
def any_device(request):
    """Where a test runs: on the CPU by Faiss, on the CPU by torch, and on a GPU."""
    return None if request.param is None else torch.device(request.param)


@pytest.fixture
def make_any_problem(any_device):
    return partial(_problem, device=any_device)


class _Thread(Exchange):
    size = 2

    def __init__(self, rank, lists, barrier, counts):
        self.rank, self._lists, self._barrier, self._counts = rank, lists, barrier, counts

    def collect(self, items):
        self._lists[self.rank] = items
        self._barrier.wait(60)
        both = [*self._lists[0], *self._lists[1]]
        self._barrier.wait(60)
        return both

    def add(self, numbers):
        first, second = self.collect([numbers])
        return first + second

    def first_row(self, count):
        return self._counts[0] * self.rank


@pytest.fixture
def two_ranks():
    """Return a function that runs `function(problem)` on two parts of a problem at once and returns both results."""

    def run(problem, cut, function):
        rows, weights = problem.source.data, problem.weights
        lists, barrier = [None, None], threading.Barrier(2)
        parts = []
        for rank, part in enumerate((slice(cut), slice(cut, None))):
            exchange = _Thread(rank, lists, barrier, [cut, len(rows) - cut])
            own = None if weights is None else weights[part]
            changes = {"source": ArraySource(rows[part]), "weights": own, "workers": Workers(1), "exchange": exchange}
            parts.append(replace(problem, **changes))
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(function, parts))

    return run


@pytest.fixture
def rng():
    return np.random.default_rng(0)
