import numpy as np
import pytest
from sklearn.datasets import make_blobs

from clustering.engine import starts
from clustering.engine.device import open_rows
from clustering.engine.parallel import Workers
from clustering.engine.problem import Options
from clustering.engine.starts import best_start
from clustering.engine.survey import Sample
from reference.kmeans import best_objective, lloyd, objective


def start(problem, rows, options, seed=0, total=None, reports=None):
    sample = Sample(rows, problem.weights)
    report = (lambda text: None) if reports is None else reports.append
    return best_start(problem, sample, total or len(rows), options, np.random.default_rng(seed), report)


@pytest.mark.parametrize("weights", [None, np.array([1.0, 2, 1, 3, 1, 1, 2, 1])])
def test_the_best_of_all_partitions_of_a_few_rows(make_any_problem, rng, weights):
    rows = rng.integers(-9, 9, (8, 2)).astype(float)
    centres = start(make_any_problem(rows, weights), rows, Options(3, starts=10))
    if weights is None:
        assert objective(rows, centres) == pytest.approx(best_objective(rows, 3), rel=0.02)
    repeated = rows if weights is None else np.repeat(rows, weights.astype(int), axis=0)
    np.testing.assert_allclose(lloyd(repeated, centres, np.ones(len(repeated)), 1), centres, rtol=1e-6)  # converged


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_more_starts_are_never_worse(make_any_problem, init):
    rows = make_blobs(1_000, 2, centers=15, random_state=0)[0]
    values = [objective(rows, start(make_any_problem(rows), rows, Options(15, init, n))) for n in (1, 3, 9)]
    assert values == sorted(values, reverse=True)


def test_the_bits_do_not_depend_on_the_threads(make_any_problem):
    rows = make_blobs(3_000, 2, centers=15, random_state=0)[0]
    first, *others = (
        start(make_any_problem(rows, workers=Workers(count)), rows, Options(15), seed=4) for count in (1, 2, 3)
    )
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_a_large_sample_is_searched_by_a_part_of_it(make_any_problem):
    rows, truth = make_blobs(30_000, 2, centers=4, cluster_std=0.3, random_state=1)
    for total, expected in (
        (30_000, ["5 starts on 2,048 rows"]),
        (10**6, ["5 starts on 2,048 rows", "the best start"]),
    ):
        reports = []
        centres = start(make_any_problem(rows), rows, Options(4), total=total, reports=reports)
        assert [text[: len(wanted)] for text, wanted in zip(reports, expected, strict=True)] == expected
        means = np.array([rows[truth == i].mean(axis=0) for i in range(4)])
        assert objective(rows, centres) < 1.02 * objective(rows, means)


def test_one_start_is_seeded_searched_and_iterated(make_any_problem):
    rows = make_blobs(800, 2, centers=10, random_state=2)[0]
    problem = make_any_problem(rows, workers=Workers(1))
    value, centres = starts._start(problem, Options(10, tol=0.0, max_iter=300), np.random.default_rng(0))
    np.testing.assert_allclose(lloyd(rows, centres, np.ones(800), 1), centres, rtol=1e-9)
    assert value == pytest.approx(objective(rows, centres), rel=1e-9)
    assert open_rows(problem).assignment(10).assign(centres) == pytest.approx(value)
