import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs

from clustering.engine import data as data_module
from clustering.engine.data import BLOCK, BatchSource
from clustering.engine.device import open_rows
from clustering.engine.lloyd import _batches, descend, fill_empty, means, sweep
from reference.kmeans import assign, lloyd, minibatch, objective

ROWS = make_blobs(2_000, 3, centers=6, cluster_std=4.0, random_state=0)[0]
WEIGHTS = np.random.default_rng(0).exponential(size=len(ROWS))


def unrounded(centres):
    return centres


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("passes", [1, 2, 6])
def test_passes_against_a_loop(make_any_problem, weights, passes):
    state = open_rows(make_any_problem(ROWS, weights)).assignment(6)
    reported = []
    centres = descend(state, ROWS[:6], passes, 0.0, unrounded, reported.append)
    mine = np.ones(len(ROWS)) if weights is None else weights
    expected = lloyd(ROWS, ROWS[:6], mine, passes - 1)
    np.testing.assert_allclose(centres, expected, rtol=1e-9)
    assert state.objective == reported[-1] == pytest.approx(objective(ROWS, expected, mine), rel=1e-10)
    assert len(reported) == passes
    assert reported == sorted(reported, reverse=True)


def test_it_ends_at_a_fixed_point(make_any_problem):
    state = open_rows(make_any_problem(ROWS)).assignment(6)
    passes = []
    centres = descend(state, ROWS[:6], 500, 0.0, unrounded, passes.append)
    assert len(passes) < 500
    np.testing.assert_allclose(lloyd(ROWS, centres, np.ones(len(ROWS)), 1), centres, rtol=1e-9)


def test_the_tolerance_is_that_of_the_documentation(make_any_problem):
    rows = ROWS[:400]
    centres, tol = rows[:6], 0.01
    for _ in range(100):
        _, _, counts, value = assign(rows, centres, np.ones(len(rows)))
        following = lloyd(rows, centres, np.ones(len(rows)), 1)
        if (((following - centres) ** 2).sum(axis=1) * counts).sum() <= tol**2 * value:
            break
        centres = following
    end = descend(open_rows(make_any_problem(rows)).assignment(6), rows[:6], 100, tol, unrounded)
    np.testing.assert_allclose(end, centres, rtol=1e-9)


def test_momentum_takes_fewer_passes_to_as_good_an_end(make_any_problem):
    rows = make_blobs(5_000, 2, centers=1, random_state=0)[0]
    state = open_rows(make_any_problem(rows)).assignment(10)
    plain, fast = [], []
    descend(state, rows[:10], 1_000, 1e-5, unrounded, plain.append)
    state.reset()
    centres = descend(state, rows[:10], 1_000, 1e-5, unrounded, fast.append, momentum=True)
    assert len(fast) < 0.8 * len(plain)
    assert fast[-1] < 1.02 * plain[-1]
    assert fast[-1] == pytest.approx(objective(rows, centres), rel=1e-9)


def test_centres_are_rounded_after_every_step(make_any_problem):
    rounded = []

    def rounding(centres):
        rounded.append(np.round(centres, 1))
        return rounded[-1]

    end = descend(open_rows(make_any_problem(ROWS)).assignment(6), np.round(ROWS[:6], 1), 30, 0.0, rounding)
    np.testing.assert_array_equal(end, np.round(end, 1))


def test_empty_clusters_get_the_farthest_rows(make_any_problem):
    rows = np.concatenate([ROWS, [[200.0, 0, 0], [0, 300, 0]]])
    state = open_rows(make_any_problem(rows)).assignment(4)
    state.assign(np.concatenate([ROWS[:2], np.full((2, 3), 1e6)]))
    np.testing.assert_array_equal(means(state)[2:], np.full((2, 3), 1e6))  # an empty cluster keeps its centre
    assert fill_empty(state)
    np.testing.assert_allclose(means(state)[2:], rows[[-1, -2]], rtol=1e-12)
    assert not fill_empty(state)
    same_rows = open_rows(make_any_problem(np.ones((9, 3)))).assignment(2)
    same_rows.assign(np.ones((2, 3)))
    assert not fill_empty(same_rows)  # no row is away from its centre


def test_minibatch_steps_against_a_loop(make_any_problem):
    data = make_blobs(2 * BLOCK + 500, 3, centers=6, cluster_std=4.0, random_state=1)[0]
    source = BatchSource([data], 3)
    list(source.blocks())
    reported = []
    problem = make_any_problem(data, source=source)
    # A BatchSource yields its blocks in order, so the loop sees the same batches.
    centres = sweep(problem, data[:6], 1, np.random.default_rng(0), lambda centres, step: reported.append(step))
    expected = minibatch([data[:BLOCK], data[BLOCK : 2 * BLOCK], data[2 * BLOCK :]], data[:6])
    np.testing.assert_allclose(centres, expected, rtol=1e-9)
    assert reported == [1, 2, 3]


def test_minibatches_of_tensors_are_not_copied_to_the_host(make_any_problem, monkeypatch):
    data = make_blobs(BLOCK + 500, 3, centers=6, random_state=1)[0]
    rows = torch.from_numpy(data)
    source = BatchSource([rows[:9_000], rows[9_000:]], 3)
    list(source.blocks())
    seen = []
    monkeypatch.setattr(data_module, "to_numpy", lambda values: seen.append(len(values)) or np.asarray(values))
    batches = list(_batches(make_any_problem(data, source=source), BLOCK, 1, np.random.default_rng(0)))
    assert [type(batch) for batch, _ in batches] == [torch.Tensor, torch.Tensor]
    torch.testing.assert_close(torch.cat([batch for batch, _ in batches]), rows, rtol=0, atol=0)
    assert not seen


@pytest.mark.parametrize("weights", [None, WEIGHTS * (WEIGHTS > 1)])
def test_minibatch_lowers_the_objective_and_ends(make_any_problem, rng, weights):
    steps = []
    centres = sweep(make_any_problem(ROWS, weights), ROWS[:6], 100, rng, lambda centres, step: steps.append(step))
    best = descend(open_rows(make_any_problem(ROWS, weights)).assignment(6), ROWS[:6], 100, 0.0, unrounded)
    assert objective(ROWS, centres, weights) < 1.1 * objective(ROWS, best, weights)
    assert 10 < len(steps) < 400
