import itertools

import numpy as np
import pytest
from sklearn.datasets import make_blobs

from clustering.engine.device import open_rows
from clustering.engine.local_search import TwoNearest, _cut, pairs, split_and_merge, swap
from reference.kmeans import objective, squared_distances

ROWS, TRUTH = make_blobs(1_500, 2, centers=12, cluster_std=0.7, random_state=3)
WEIGHTS = np.random.default_rng(2).exponential(size=len(ROWS))
BAD = ROWS[np.flatnonzero(TRUTH < 4)][:12]
"""Twelve centres within four of the twelve groups."""


def test_replacing_centres_against_searching_again(make_problem, rng):
    rows = open_rows(make_problem(ROWS))
    two = TwoNearest(rows, ROWS[:6])
    for _ in range(30):
        cluster, row = int(rng.integers(6)), int(rng.integers(len(ROWS)))
        two.replace(cluster, rows.points[row], rows.squares_from(np.array([row]))[0])
        squares = squared_distances(ROWS, two.centres)
        assert (two.labels[:, 0] != two.labels[:, 1]).all()
        np.testing.assert_allclose(
            np.take_along_axis(squares, two.labels, 1), np.sort(squares, axis=1)[:, :2], atol=1e-3
        )
        np.testing.assert_allclose(two.squares, np.sort(squares, axis=1)[:, :2], atol=1e-3)
        assert two.objective == pytest.approx(objective(ROWS, two.centres), rel=1e-4)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_swaps_leave_a_bad_optimum(make_problem, rng, weights):
    rows = open_rows(make_problem(ROWS, weights))
    centres, moved = swap(rows, BAD, rng, 1_000)
    best = objective(ROWS, np.array([ROWS[i == TRUTH].mean(axis=0) for i in range(12)]), weights)
    assert moved >= 8
    assert objective(ROWS, BAD, weights) > 5 * best
    assert objective(ROWS, centres, weights) < 2.5 * best  # the centres are rows, not means


def test_every_swap_lowers_the_objective(make_problem):
    rows = open_rows(make_problem(ROWS, WEIGHTS))
    values = [objective(ROWS, BAD, WEIGHTS)]
    for limit in range(1, 60):  # the same draws, cut off later and later
        values.append(objective(ROWS, swap(rows, BAD, np.random.default_rng(0), limit)[0], WEIGHTS))
    assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(values))
    assert values[-1] < 0.5 * values[0]


def test_the_gain_of_a_cut_against_a_loop(make_problem, rng):
    two = TwoNearest(open_rows(make_problem(ROWS, WEIGHTS)), ROWS[:5])
    means, gains = _cut(two, rng)
    for cluster in range(5):
        mine = two.labels[:, 0] == cluster
        rows, weights, halves = ROWS[mine], WEIGHTS[mine], means[:, cluster]
        mean = np.average(rows, axis=0, weights=weights)
        side = squared_distances(rows, halves).argmin(axis=1)
        parts = [(rows[side == i], weights[side == i]) for i in range(2)]
        after = sum(objective(part, np.average(part, axis=0, weights=w)[None], w) for part, w in parts)
        drop = objective(rows, mean[None], weights) - after
        assert gains[cluster] == pytest.approx(drop, rel=0.1)  # the halves may still move
        assert gains[cluster] > 0


def test_pairs_are_disjoint_and_profitable():
    gains, cost = np.array([9.0, 1.0, 8.0, 2.0, 0.1]), np.array([5.0, 0.1, 6.0, 3.0, 0.2])
    assert pairs(gains, cost, 5) == [(0, 1), (2, 4)]
    assert pairs(gains, cost, 1) == [(0, 1)]
    assert pairs(gains, cost + 10, 5) == []


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_split_and_merge_leaves_a_bad_optimum(make_problem, rng, weights):
    centres, moved = split_and_merge(open_rows(make_problem(ROWS, weights)), BAD, rng)
    best = objective(ROWS, np.array([ROWS[i == TRUTH].mean(axis=0) for i in range(12)]), weights)
    assert moved > 0
    assert objective(ROWS, centres, weights) < min(3 * best, objective(ROWS, BAD, weights))


def test_too_few_centres_stay(make_problem, rng):
    rows = open_rows(make_problem(ROWS))
    assert swap(rows, ROWS[:1], rng, 10)[1] == 0
    assert split_and_merge(rows, ROWS[:2], rng)[1] == 0
