from functools import partial

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning

from clustering.engine import fit
from clustering.engine.data import ArraySource, OutputType, to_numpy
from clustering.engine.fit import fit_centres
from clustering.engine.parallel import Exchange
from clustering.engine.problem import Options, Problem
from reference.kmeans import lloyd, objective, squared_distances

ROWS = make_blobs(3_000, 3, centers=6, cluster_std=3.0, random_state=0)[0] + 50


@pytest.fixture
def options(any_device):
    return partial(Options, device=any_device)


def problem(rows=ROWS, **changes):
    return Problem(ArraySource(rows), OutputType.of(rows), **changes)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_the_result_against_float64(dtype, options):
    rows = ROWS.astype(dtype)
    result = fit_centres(problem(rows), options(6))
    squares = squared_distances(rows, result.centres)
    np.testing.assert_array_equal(result.centres, result.centres.astype(dtype))  # numbers of the data's type
    np.testing.assert_array_equal(to_numpy(result.labels), squares.argmin(axis=1))
    assert result.objective == pytest.approx(squares.min(axis=1).sum(), rel=1e-12)
    assert 1 <= result.passes <= 100


@pytest.mark.parametrize("weights", [None, np.random.default_rng(0).exponential(size=3_000)])
def test_given_centres_follow_lloyd(weights, options):
    result = fit_centres(problem(weights=weights), options(6, init=ROWS[:6], max_iter=5, tol=0.0))
    expected = lloyd(ROWS, ROWS[:6], np.ones(3_000) if weights is None else weights, 4)
    np.testing.assert_allclose(result.centres, expected, rtol=1e-9)
    assert result.objective == pytest.approx(objective(ROWS, expected, weights), rel=1e-9)
    assert result.passes == 5


def test_the_cosine_against_float64(options):
    result = fit_centres(problem(), options(4, metric="cosine"))
    unit = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    distances = 1 - unit @ result.centres.T
    np.testing.assert_array_equal(to_numpy(result.labels), distances.argmin(axis=1))
    assert result.objective == pytest.approx(distances.min(axis=1).sum(), rel=1e-8)


def test_directions_that_cancel_out_keep_a_centre(options):
    rows = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    given = problem()
    result = fit_centres(problem(rows), options(1, init=np.array([[0.0, 1.0, 0.0]]), metric="cosine"))
    np.testing.assert_array_equal(result.centres, [[0.0, 1.0, 0.0]])
    assert given.coordinates.metric == "euclidean"


def test_minibatch_is_one_pass_after_the_batches(options):
    result = fit_centres(problem(), options(6, algorithm="minibatch"))
    assert result.passes == 1
    assert result.objective == pytest.approx(objective(ROWS, result.centres), rel=1e-9)
    assert result.objective < 1.1 * fit_centres(problem(), options(6)).objective


def test_too_many_clusters_warn(options):
    with pytest.warns(ConvergenceWarning, match="only 2 of 3 clusters have rows"):
        result = fit_centres(problem(np.repeat([[1.0], [5.0]], 9, axis=0)), options(3))
    assert result.objective == 0


@pytest.mark.parametrize("algorithm", ["lloyd", "minibatch"])
def test_an_interrupt_keeps_the_latest_centres(monkeypatch, algorithm, options):
    name = {"lloyd": "_after_pass", "minibatch": "_after_batch"}[algorithm]
    update, seen = getattr(fit._Fit, name), []

    def interrupted(run, *args):
        update(run, *args)
        seen.append(run.latest)
        if len(seen) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(fit._Fit, name, interrupted)
    with pytest.warns(ConvergenceWarning, match="the best centres so far are kept"):
        result = fit_centres(problem(), options(6, init=ROWS[:6], tol=0.0, algorithm=algorithm))
    np.testing.assert_allclose(result.centres, result.coordinates.restore(seen[1]))
    assert result.objective == pytest.approx(objective(ROWS, result.centres), rel=1e-9)


def test_an_interrupt_is_not_caught_before_there_are_centres_or_with_other_processes(monkeypatch, options):
    def interrupted(*args):
        raise KeyboardInterrupt

    class Two(Exchange):
        size = 2

    monkeypatch.setattr(fit._Fit, "_after_pass", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_centres(problem(exchange=Two()), options(6, init=ROWS[:6]))
    monkeypatch.setattr(fit, "best_start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_centres(problem(), options(6))


def test_the_progress_bar(capsys, options):
    fit_centres(problem(), options(clusters=6, verbose=True))
    assert "pass" in capsys.readouterr().out


@pytest.mark.parametrize("weighted", [False, True])
def test_processes_find_what_one_finds_bit_for_bit(options, two_ranks, weighted):
    rows = make_blobs(20_000, 2, centers=5, cluster_std=2.0, random_state=1)[0]
    weights = np.random.default_rng(0).exponential(size=20_000) if weighted else None
    whole = problem(rows, weights=weights)
    expected = fit_centres(whole, options(5, starts=2))
    parts = two_ranks(whole, 16_384, lambda part: fit_centres(part, options(5, starts=2)))
    for part in parts:
        np.testing.assert_array_equal(part.centres, expected.centres)
        assert part.objective == pytest.approx(expected.objective, rel=1e-14)
        assert part.passes == expected.passes
    labels = np.concatenate([to_numpy(part.labels) for part in parts])
    np.testing.assert_array_equal(labels, to_numpy(expected.labels))
