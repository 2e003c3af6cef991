import numpy as np
import pytest
import torch

from clustering.engine.apply import distances, label, objective
from clustering.engine.data import ArraySource, BatchSource, to_numpy
from clustering.engine.device import open_rows
from reference.kmeans import assign, squared_distances

ROWS = np.random.default_rng(0).standard_normal((20_000, 3)) * 2 + 7
WEIGHTS = np.random.default_rng(1).exponential(size=20_000)


def test_count_dim_extremes_and_take(make_any_problem):
    for source in (ArraySource(ROWS), ArraySource(torch.from_numpy(ROWS)), BatchSource(np.array_split(ROWS, 7), 3)):
        rows = open_rows(make_any_problem(ROWS, source=source))
        assert rows.extremes() == (ROWS.min(), ROWS.max())
        assert (rows.count, rows.dim) == ROWS.shape
        np.testing.assert_array_equal(to_numpy(rows.take(np.array([0, 17, 19_999]))), ROWS[[0, 17, 19_999]])
    assert open_rows(make_any_problem(ROWS).with_rows(ROWS[:0], None)).extremes() == (np.inf, -np.inf)


@pytest.mark.parametrize("k", [1, 5, 30])
def test_labels_and_objective_against_a_loop(make_any_problem, k):
    problem = make_any_problem(ROWS[:2_000], WEIGHTS[:2_000], centred=True)
    rows, centres = open_rows(problem), problem.coordinates.float64(ROWS[:k])
    labels, _, _, expected = assign(problem.coordinates.float64(ROWS[:2_000]), centres, WEIGHTS[:2_000])
    np.testing.assert_array_equal(to_numpy(rows.label(centres)), labels)
    assert rows.objective(centres, labels.astype(np.int32)) == pytest.approx(expected, rel=1e-12)


def test_distances_between_rows_and_the_two_nearest_centres(make_problem):
    problem = make_problem(ROWS[:500], centred=True)
    rows, wide = open_rows(problem), problem.coordinates.float64(ROWS[:500])
    np.testing.assert_array_equal(rows.points, wide.astype(np.float32))
    numbers = np.array([400, 3, 3])
    np.testing.assert_allclose(rows.squares_from(numbers), squared_distances(wide, wide[numbers]).T, atol=1e-4)
    squares = squared_distances(wide, wide[:6])
    for which in (None, np.array([9, 2])):
        expected = squares if which is None else squares[which]
        nearest, labels = rows.search(wide[:6].astype(np.float32), which)
        np.testing.assert_array_equal(labels, np.argsort(expected, axis=1)[:, :2])
        np.testing.assert_allclose(nearest, np.sort(expected, axis=1)[:, :2], atol=1e-4)
        assert (nearest >= 0).all()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("size", [1.0, 1e25])
def test_fitted_centres_applied_to_data(make_any_problem, metric, size):
    data = ROWS[:3_000] * size
    problem = make_any_problem(data, WEIGHTS[:3_000], metric, centred=True)
    if metric == "cosine":
        centres = data[:9] / np.linalg.norm(data[:9], axis=1, keepdims=True)
        exact = 1 - data / np.linalg.norm(data, axis=1, keepdims=True) @ centres.T
        expected = (exact.min(axis=1) * WEIGHTS[:3_000]).sum()
    else:
        centres = data[:9] + size
        exact = np.sqrt(squared_distances(data, centres))
        expected = (exact.min(axis=1) ** 2 * WEIGHTS[:3_000]).sum()
    np.testing.assert_array_equal(to_numpy(label(problem, centres)), exact.argmin(axis=1))
    np.testing.assert_allclose(to_numpy(distances(problem, centres)), exact, rtol=1e-9, atol=1e-12)
    assert objective(problem, centres) == pytest.approx(expected, rel=1e-10)
    data[7, 1] = np.nan
    for function in (lambda: label(problem, centres), lambda: distances(problem, centres)):
        with pytest.raises(ValueError, match="NaN"):
            function()


@pytest.mark.parametrize(("gap", "spread"), [(1e4, 1e-2), (1e6, 1e-3), (1.0, 0.0)])
def test_distances_within_small_clusters_far_apart(make_any_problem, rng, gap, spread):
    data = rng.standard_normal((3_000, 2)) * spread + gap * rng.integers(0, 3, (3_000, 1))
    centres = np.array([[0.0, 0.0], [gap, gap], [2 * gap, 2 * gap]]) + spread / 10
    exact = np.sqrt(squared_distances(data, centres))
    np.testing.assert_allclose(
        to_numpy(distances(make_any_problem(data, centred=True), centres)), exact, rtol=1e-5, atol=1e-12
    )


def test_distances_have_the_type_of_the_data(make_problem):
    for dtype, expected in ((torch.bfloat16, "float32"), (torch.float16, "float16"), (torch.int32, "float64")):
        data = torch.from_numpy(ROWS[:50]).to(dtype)
        assert distances(make_problem(data), ROWS[:2]).dtype == expected
