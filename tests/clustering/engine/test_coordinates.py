import math

import numpy as np
import pytest

from clustering.engine.coordinates import Coordinates
from reference.kmeans import squared_distances


def rows(size=1.0, offset=0.0, dtype="float64"):
    return (np.random.default_rng(0).standard_normal((500, 3)) * size + offset).astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize(("size", "offset"), [(1.0, 0.0), (1.0, 1e4), (1e-4, 3.0)])
def test_euclidean_coordinates_against_a_loop(dtype, size, offset):
    data = rows(size, offset, dtype)
    coordinates = Coordinates.around(data, "euclidean")
    expected = [[(float(x) - o) * coordinates.scale for x, o in zip(r, coordinates.offset, strict=True)] for r in data]
    np.testing.assert_array_equal(coordinates.float64(data), expected)
    np.testing.assert_array_equal(coordinates.float32(data), np.array(expected).astype(np.float32))
    assert coordinates.float32(data).flags.c_contiguous
    assert np.abs(coordinates.float64(data).mean(axis=0)).max() <= 1e-6 * max(abs(offset), size)
    np.testing.assert_allclose(coordinates.restore(coordinates.float64(data)), data, rtol=1e-12, atol=1e-12 * size)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_the_scale_brings_the_data_into_the_range_of_float32(size):
    data = rows(size)
    coordinates = Coordinates.around(data, "euclidean")
    assert math.frexp(coordinates.scale)[0] == 0.5  # a power of two
    squares = squared_distances(coordinates.float32(data), coordinates.float32(data[:1]))
    exact = squared_distances(data, data[:1])
    np.testing.assert_allclose([coordinates.restore_objective(x) for x in squares[:, 0]], exact[:, 0], rtol=1e-5)
    assert np.isfinite(squares.astype(np.float32)).all()


def test_the_bound_bounds_every_coordinate():
    for data in (rows(), rows(1.0, -1e5), rows(1e25, 1e26)):
        coordinates = Coordinates.around(data, "euclidean")
        assert np.abs(coordinates.float64(data)).max() <= coordinates.bound(data.min(), data.max()) * (1 + 1e-12)
    assert Coordinates("cosine").bound(-1e9, 1e9) == 1.0


def test_cosine_coordinates_are_directions():
    data = rows(1e3, 5.0)
    coordinates = Coordinates.around(data, "cosine")
    expected = [[x / math.hypot(*row) for x in row] for row in data]
    np.testing.assert_allclose(coordinates.float64(data), expected, rtol=1e-14)
    np.testing.assert_array_equal(coordinates.restore(coordinates.float64(data)), coordinates.float64(data))
    unit = coordinates.float64(data)
    square = squared_distances(unit[:1], unit[1:2])[0, 0]
    assert coordinates.restore_objective(square) == pytest.approx(1 - unit[0] @ unit[1])
    with pytest.raises(ValueError, match="row of zeros"):
        coordinates.float64(np.zeros((1, 3)))


@pytest.mark.parametrize(("dtype", "sizes"), [("float64", (1e-300, 1e-308, 1e300, 1e307)), ("float32", (1e-33, 1e37))])
def test_the_direction_of_very_short_and_very_long_rows(dtype, sizes):
    data = rows().astype(dtype)
    for size in sizes:
        mixed = data.copy()
        mixed[::2] *= np.array(size, dtype)
        given = mixed.copy()
        np.testing.assert_allclose(Coordinates("cosine").float64(mixed), Coordinates("cosine").float64(data), rtol=1e-6)
        np.testing.assert_array_equal(mixed, given)


def test_default_coordinates_are_those_of_the_data():
    np.testing.assert_array_equal(Coordinates().float64(rows()), rows())


def test_values_whose_squares_overflow():
    with pytest.raises(ValueError, match="found 1e\\+200"):
        Coordinates.around(np.array([[1e200, 0.0], [0.0, 1.0]]), "euclidean")
