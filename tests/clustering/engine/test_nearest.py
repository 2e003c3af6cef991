import numpy as np
import pytest

from clustering.engine.coordinates import Coordinates
from clustering.engine.nearest import Nearest
from reference.kmeans import squared_distances


def data(k, dim=4, offset=0.0, dtype="float64"):
    rng = np.random.default_rng(k)
    rows = (rng.standard_normal((3_000, dim)) + offset).astype(dtype)
    return rows, rows[:k].astype(np.float64)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("k", [1, 2, 16, 17, 60])
def test_labels_and_margins_against_float64(k, offset, dtype):
    rows, centres = data(k, offset=offset, dtype=dtype)
    coordinates = Coordinates.around(rows, "euclidean")
    inside = coordinates.float64(centres)
    labels, margins = Nearest(inside, coordinates).search(rows)
    squares = squared_distances(coordinates.float64(rows), inside)
    np.testing.assert_array_equal(labels, squares.argmin(axis=1))
    assert labels.dtype == np.int32
    if k > 1:
        first, second = np.sqrt(np.sort(squares, axis=1)[:, :2]).T
        assert (margins <= second - first + 1e-12).all()
        clear = second - first > 0.1
        assert (margins[clear] > 0.9 * (second - first)[clear]).all()  # the bounds are tight enough to be useful


@pytest.mark.parametrize("k", [3, 40])
def test_the_first_of_equally_near_centres_wins(k):
    rows = np.arange(50.0)[:, None] * np.ones(3)
    centres = np.repeat(np.arange(k // 3 * 1.0), 3)[: k - k % 3, None] * 2.0 * np.ones(3)
    labels, margins = Nearest(centres, Coordinates()).search(rows)
    np.testing.assert_array_equal(labels, squared_distances(rows, centres).argmin(axis=1))
    assert (margins <= 0).all()


@pytest.mark.parametrize("k", [8, 60])
def test_ties_beyond_float32_are_settled_in_float64(k):
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((k, 5))
    pairs = rng.integers(0, k, (2_000, 2))
    rows = centres[pairs].mean(axis=1) + 1e-9 * rng.standard_normal((2_000, 5))  # halfway, up to 1e-9
    labels = Nearest(centres, Coordinates()).search(rows)[0]
    np.testing.assert_array_equal(labels, squared_distances(rows, centres).argmin(axis=1))


@pytest.mark.parametrize("k", [8, 60])
def test_a_label_does_not_depend_on_the_other_rows(k):
    rows, centres = data(k)
    nearest = Nearest(centres, Coordinates())
    whole = nearest.search(rows)[0]
    for part in (slice(0, 1), slice(5, 300), slice(2_000, None)):
        np.testing.assert_array_equal(nearest.search(rows[part])[0], whole[part])
