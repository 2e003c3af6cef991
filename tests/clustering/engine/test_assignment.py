import numpy as np
import pytest

from clustering.engine.data import to_numpy
from clustering.engine.device import open_rows
from reference.kmeans import assign, squared_distances

ROWS = np.random.default_rng(0).standard_normal((40_000, 3)) + 5
WEIGHTS = np.random.default_rng(1).exponential(size=40_000)
CENTRES = [ROWS[:9] + shift for shift in (0.0, 1e-3, 0.3, 0.3, -0.5)]


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_every_pass_against_a_loop(make_any_problem, weights):
    rows, mine = ROWS[:3_000], None if weights is None else weights[:3_000]
    problem = make_any_problem(rows, mine, centred=True)
    state = open_rows(problem).assignment(9)
    inside = problem.coordinates.float64(rows)
    for centres in CENTRES:
        centres = problem.coordinates.float64(centres)
        objective = state.assign(centres)
        labels, sums, counts, expected = assign(inside, centres, np.ones(3_000) if mine is None else mine)
        np.testing.assert_array_equal(to_numpy(state.labels), labels)
        np.testing.assert_allclose(state.sums, sums, atol=1e-9)
        np.testing.assert_allclose(state.counts, counts, rtol=1e-12)
        assert objective == state.objective == pytest.approx(expected, rel=1e-10)
        other = problem.coordinates.float64(CENTRES[2])
        moved = (squared_distances(inside, other)[np.arange(3_000), labels] * (1 if mine is None else mine)).sum()
        gain = state.relative_objective(centres) - state.relative_objective(other)
        assert gain == pytest.approx(expected - moved, rel=1e-9, abs=1e-8)


def test_only_rows_that_may_have_changed_are_searched(make_any_problem):
    state = open_rows(make_any_problem(ROWS)).assignment(9)
    searched = []
    for centres in CENTRES:
        state.assign(centres)
        searched.append(state.searched)
        np.testing.assert_array_equal(to_numpy(state.labels), squared_distances(ROWS, centres).argmin(axis=1))
    assert searched[0] == len(ROWS)
    assert searched[1] < 0.02 * len(ROWS)
    assert searched[3] < 0.02 * len(ROWS)  # the centres did not move


def test_a_reset_assignment_has_the_bits_of_a_new_one(make_any_problem):
    rows = open_rows(make_any_problem(ROWS, WEIGHTS))
    state, fresh = rows.assignment(9), rows.assignment(9)
    for centres in CENTRES:
        state.assign(centres)
    state.reset()
    assert state.assign(CENTRES[2]) == fresh.assign(CENTRES[2])
    assert state.searched == len(ROWS)
    np.testing.assert_array_equal(state.sums, fresh.sums)
    np.testing.assert_array_equal(state.counts, fresh.counts)


def test_farthest_rows(make_any_problem):
    rows = np.concatenate([ROWS[:20_000], [[50.0, 0, 0], [0, 60, 0], [50, 0, 0]], ROWS[20_000:]])
    state = open_rows(make_any_problem(rows)).assignment(2)
    centres = np.array([rows[0], rows[1]])
    state.assign(centres)
    squares = squared_distances(rows, centres).min(axis=1)
    order = np.argsort(-squares, kind="stable")[:30]
    farthest = state.farthest(30)
    assert [far.number for far in farthest] == order.tolist()
    np.testing.assert_allclose([far.square for far in farthest], squares[order], rtol=1e-12)
    np.testing.assert_array_equal([far.row for far in farthest], rows[order])
    few = open_rows(make_any_problem(rows[:2])).assignment(2)
    few.assign(centres)
    assert few.farthest(5) == []  # all rows are at a centre


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_processes_agree_with_one_bit_for_bit(make_any_problem, two_ranks, weights):
    def passes(problem):
        state = open_rows(problem).assignment(9)
        far_away = np.concatenate([CENTRES[0][:8], [[1e3, 1e3, 1e3]]])
        objectives = [state.assign(far_away)]
        (far,) = state.farthest(1)
        state.reassign(far, 8)
        moved = state.sums.copy(), state.counts.copy()
        objectives += [state.assign(centres) for centres in CENTRES]
        return state, far, moved, objectives

    problem = make_any_problem(ROWS, weights)
    expected, far, moved, objectives = passes(problem)
    parts = two_ranks(problem, 16_384, passes)
    for state, far_too, moved_too, objectives_too in parts:
        assert far_too[:2] == far[:2]
        np.testing.assert_array_equal(moved_too[0], moved[0])
        np.testing.assert_array_equal(moved_too[1], moved[1])
        np.testing.assert_array_equal(state.sums, expected.sums)
        np.testing.assert_array_equal(state.counts, expected.counts)
        assert objectives_too == objectives
    np.testing.assert_array_equal(
        np.concatenate([to_numpy(state.labels) for state, *_ in parts]), to_numpy(expected.labels)
    )


def test_reassigning_moves_one_row(make_any_problem):
    state = open_rows(make_any_problem(ROWS, WEIGHTS)).assignment(3)
    state.assign(np.concatenate([ROWS[:2], [[1e3, 1e3, 1e3]]]))
    sums, counts, labels = state.sums.copy(), state.counts.copy(), to_numpy(state.labels).copy()
    (far,) = state.farthest(1)
    state.reassign(far, 2)
    old = labels[far.number]
    np.testing.assert_allclose(state.sums[2], WEIGHTS[far.number] * ROWS[far.number], rtol=1e-9)
    np.testing.assert_allclose(state.sums[old], sums[old] - WEIGHTS[far.number] * ROWS[far.number], rtol=1e-9)
    assert state.counts[2] == pytest.approx(WEIGHTS[far.number])
    assert state.counts.sum() == pytest.approx(counts.sum())
    assert np.flatnonzero(to_numpy(state.labels) != labels).tolist() == [far.number]


def test_a_doubtful_objective(make_any_problem):
    rows = np.repeat(ROWS[:4], 50, axis=0)
    state = open_rows(make_any_problem(rows)).assignment(4)
    state.assign(rows[::50])
    assert state.doubtful
    state.assign(rows[::50] + 1)
    assert not state.doubtful
