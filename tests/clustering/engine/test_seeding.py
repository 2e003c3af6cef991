import itertools

import numpy as np
import pytest

from clustering.engine.device import open_rows
from clustering.engine.seeding import BATCH, candidates, draw, plus_plus, random_rows
from reference.kmeans import objective, squared_distances
from reference.kmeans import plus_plus as slow_plus_plus


def frequencies(numbers, size):
    return np.bincount(numbers, minlength=size) / len(numbers)


def test_draws_are_proportional(rng):
    potential = np.array([0.0, 1.0, 3.0, 0.0, 4.0])
    numbers = draw(potential, 40_000, rng)
    np.testing.assert_allclose(frequencies(numbers, 5), potential / 8, atol=0.015)
    assert set(numbers) == {1, 2, 4}
    assert set(draw(np.zeros(3), 1_000, rng)) == {0, 1, 2}


@pytest.mark.parametrize("clusters", [1, 2, 7, 25])
@pytest.mark.parametrize("seed", [0, 1])
def test_greedy_plus_plus_against_a_loop(make_problem, clusters, seed):
    # Whole numbers: their squared distances are exact in float32.
    data = np.random.default_rng(seed).integers(-30, 30, (200, 3)).astype(float)
    chosen = plus_plus(open_rows(make_problem(data)), clusters, np.random.default_rng(seed))
    expected = slow_plus_plus(data, clusters, np.random.default_rng(seed), BATCH)
    np.testing.assert_array_equal(chosen, expected)


def test_plus_plus_is_better_than_random_rows(make_problem):
    data = np.random.default_rng(0).standard_normal((2_000, 2)) ** 3
    rows = open_rows(make_problem(data))
    values = {}
    for function in (plus_plus, random_rows):
        seeds = range(10)
        values[function] = np.mean([objective(data, data[function(rows, 20, np.random.default_rng(s))]) for s in seeds])
    assert values[plus_plus] < 0.5 * values[random_rows]


@pytest.mark.parametrize("weighted", [False, True])
def test_candidates_follow_the_current_distances(make_problem, weighted):
    data = np.arange(12.0)[:, None]
    weights = np.linspace(0, 2, 12) if weighted else None
    squares = squared_distances(data, data)
    rows, counts, state = open_rows(make_problem(data, weights)), np.zeros(12), {}
    for seed in range(2_500):
        state["closest"] = squares[0].astype(np.float32)
        supply = candidates(rows, lambda: state["closest"], np.random.default_rng(seed))
        next(supply)
        state["closest"] = np.minimum(squares[0], squares[9]).astype(np.float32)  # a centre is added within the batch
        row, distances = next(supply)
        counts[row] += 1
        np.testing.assert_array_equal(distances, squares[row])
    expected = state["closest"] * (1 if weights is None else weights)
    np.testing.assert_allclose(counts / 2_500, expected / expected.sum(), atol=0.04)


def test_rows_that_all_coincide_with_a_centre(make_problem, rng):
    rows = open_rows(make_problem(np.ones((5, 2))))
    assert [row in range(5) for row, _ in itertools.islice(candidates(rows, lambda: np.zeros(5, "f4"), rng), 200)]
    assert len(plus_plus(rows, 3, rng)) == 3


def test_random_rows(make_problem):
    weights = np.array([0.0, 1.0, 2.0, 5.0])
    rows = open_rows(make_problem(np.arange(4.0)[:, None], weights))
    first = [random_rows(rows, 1, np.random.default_rng(seed))[0] for seed in range(4_000)]
    np.testing.assert_allclose(frequencies(first, 4), weights / 8, atol=0.03)
    for seed in range(20):
        assert sorted(random_rows(rows, 4, np.random.default_rng(seed))) == [0, 1, 2, 3]  # more than have a weight
        assert 0 not in random_rows(rows, 3, np.random.default_rng(seed))
