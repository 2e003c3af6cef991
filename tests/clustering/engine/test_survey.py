import numpy as np
import pytest

from clustering.engine.data import BatchSource, check_finite
from clustering.engine.survey import Sample, draw_sample, survey

ROWS = np.random.default_rng(0).standard_normal((40_000, 2))
WEIGHTS = np.random.default_rng(1).integers(0, 3, 40_000).astype(float)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_totals_against_numpy(make_any_problem, two_ranks, weights):
    problem = make_any_problem(ROWS, weights)
    seen = survey(problem, 5)
    assert seen == (40_000, ROWS.min(), ROWS.max(), 40_000 if weights is None else WEIGHTS.sum())
    assert two_ranks(problem, 16_384, lambda part: survey(part, 5)) == [seen, seen]


def test_batches_are_counted(make_any_problem):
    source = BatchSource([ROWS[:7], ROWS[7:]], 2)
    assert survey(make_any_problem(ROWS, source=source), 1).rows == source.count == 40_000


def test_too_few_rows(make_any_problem):
    with pytest.raises(ValueError, match="n_samples=3 should be >= n_clusters=4"):
        survey(make_any_problem(ROWS[:3]), 4)
    with pytest.raises(ValueError, match="2 samples with positive weight should be >= n_clusters=3"):
        survey(make_any_problem(ROWS[:3], np.array([1.0, 0.0, 2.0])), 3)
    with pytest.raises(ValueError, match="found zeros only"):
        survey(make_any_problem(ROWS[:3], np.zeros(3)), 1)


@pytest.mark.parametrize(("value", "message"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_values_that_are_not_finite(make_any_problem, two_ranks, value, message):
    rows = ROWS.copy()
    rows[39_000, 1] = value  # in the last block, and on one process only
    with pytest.raises(ValueError, match=message):
        survey(make_any_problem(rows), 1)
    with pytest.raises(ValueError, match=message):
        check_finite(0.0, value)

    def failed(part):
        with pytest.raises(ValueError, match=message):
            survey(part, 1)
        return True

    assert two_ranks(make_any_problem(ROWS).with_rows(rows, None), 16_384, failed) == [True, True]


def test_a_sample_is_uniform_over_rows_with_weight(make_any_problem):
    rows = np.arange(20.0)[:, None]
    weights = np.where(np.arange(20) % 2, 5.0, 0.0)
    counts = np.zeros(20)
    for seed in range(2_000):
        sample = draw_sample(make_any_problem(rows, weights), 4, np.random.default_rng(seed))
        numbers = sample.rows[:, 0].astype(int)
        assert (np.diff(numbers) > 0).all()
        assert (sample.weights == 5).all()
        counts[numbers] += 1
    assert not counts[::2].any()
    assert np.abs(counts[1::2] - 800).max() < 5 * np.sqrt(800)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("size", [1_000, 50_000])
def test_processes_draw_the_sample_of_one(make_any_problem, two_ranks, weights, size):
    problem = make_any_problem(ROWS, weights)
    expected = draw_sample(problem, size, np.random.default_rng(3))
    for sample in two_ranks(problem, 16_384, lambda part: draw_sample(part, size, np.random.default_rng(3))):
        np.testing.assert_array_equal(sample.rows, expected.rows)
        np.testing.assert_array_equal(sample.weights, expected.weights)


def test_a_small_sample_is_everything(make_any_problem):
    np.testing.assert_array_equal(draw_sample(make_any_problem(ROWS), 10**6, np.random.default_rng(0)).rows, ROWS)


def test_subset():
    sample = Sample(ROWS, WEIGHTS).subset(np.array([5, 3]))
    np.testing.assert_array_equal(sample.rows, ROWS[[5, 3]])
    np.testing.assert_array_equal(sample.weights, WEIGHTS[[5, 3]])
    assert Sample(ROWS, None).subset(np.array([1])).weights is None
