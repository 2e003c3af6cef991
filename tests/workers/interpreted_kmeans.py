"""Search by the Triton kernel, interpreted on a CPU; prints the errors of the checks by name as JSON."""

import json
import os
import traceback

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch

from clustering.engine.coordinates import Coordinates
from clustering.engine.gpu.nearest import Nearest, Screen
from reference.kmeans import squared_distances


def data(count, dim, clusters, dtype=torch.float32, size=1.0):
    rng = np.random.default_rng(count + dim)
    rows = torch.from_numpy(rng.standard_normal((count, dim)) * size + 3).to(dtype)
    centres = rows[rng.integers(0, count, clusters)].double().numpy() + 0.3 * rng.standard_normal((clusters, dim))
    return rows, centres


def prepare(rows, centres, metric="euclidean"):
    coordinates = Coordinates.around(rows, metric)
    wide = coordinates.float64(rows.double().numpy())
    return coordinates, wide, coordinates.float64(centres)


def screen(nearest, bits):
    """Return a screen whose products are in float32: of the same numbers, which the interpreter cannot multiply."""
    made = Screen(nearest, bits)
    made.centres = made.centres.float()
    return made


def bounds(bits):
    """Check that scores are within their bounds, for sizes that fill tiles and sizes that do not."""
    for count, dim, clusters in ((300, 5, 3), (130, 128, 70), (40, 200, 130), (1, 16, 64)):
        rows, given = data(count, dim, clusters)
        coordinates, wide, centres = prepare(rows, given)
        nearest = Nearest(centres, coordinates, torch.device("cpu"))
        found = screen(nearest, bits)(rows, None)
        squares = squared_distances(wide, centres)
        exact = np.sort(squares, axis=1)[:, :2] - (wide**2).sum(axis=1)[:, None]
        doubt = found.doubt.double().numpy()
        assert (doubt < 0.2 * squares.max()).all(), doubt.max() / squares.max()
        np.testing.assert_allclose(found.sizes, (wide**2).sum(axis=1), rtol=1e-5)
        for values, score in zip((found.first, found.second), exact.T, strict=True):
            assert (np.abs(values.double().numpy() - score) <= doubt / 2).all()
        certain = (found.margins() > 0).numpy()
        assert (found.labels.numpy() == squares.argmin(axis=1))[certain].all()
        roots = np.sort(np.sqrt(squares), axis=1)
        assert (found.margins().numpy() <= roots[:, 1] - roots[:, 0] + 1e-6).all()


def bfloat16():
    """Check the screen of 16 bits."""
    bounds(16)


def tf32():
    """Check the screen of 13 bits."""
    bounds(13)


def some_rows():
    """Check that numbered rows, and rows of another type or layout, are found as all are."""
    rows, given = data(200, 24, 20, torch.bfloat16)
    coordinates, _, centres = prepare(rows.float(), given)
    search = screen(Nearest(centres, coordinates, torch.device("cpu")), 16)
    all_rows, which = search(rows, None), torch.tensor([199, 3, 3, 50])
    for part in (search(rows, which), search(rows.double(), which), search(rows.T.contiguous().T, which)):
        for one, other in zip(part, all_rows, strict=True):
            torch.testing.assert_close(one, other[which], rtol=1e-3, atol=1e-3)


def cascade():
    """Check labels after all levels, with ties and with rows that low precision cannot separate."""
    for metric in ("euclidean", "cosine"):
        rows, given = data(150, 12, 9, torch.float64)
        given[4] = given[2]  # equally near: the first wins
        given[5] = given[3] + 1e-9
        coordinates, wide, centres = prepare(rows, given, metric)
        nearest = Nearest(centres, coordinates, torch.device("cpu"))
        nearest.screens = [screen(nearest, 16), screen(nearest, 13)]
        labels, margins = nearest.search(rows)
        squares = squared_distances(wide, centres)
        np.testing.assert_array_equal(labels, squares.argmin(axis=1))
        roots = np.sort(np.sqrt(squares), axis=1)
        assert (margins.numpy() <= roots[:, 1] - roots[:, 0] + 1e-6).all()
        assert margins.gt(0).float().mean() > 0.5


def fast_precision():
    """Check that TF32 alone gives labels that are nearly the nearest."""
    rows, given = data(300, 16, 12)
    coordinates, wide, centres = prepare(rows, given)
    nearest = Nearest(centres, coordinates, torch.device("cpu"), "tf32")
    nearest.screens = [screen(nearest, 13)]
    labels, _ = nearest.search(rows)
    squares = squared_distances(wide, centres)
    assert (squares[np.arange(300), labels] <= squares.min(axis=1) * (1 + 1e-2) + 1e-2).all()


def result(check):
    """Return the error of a check, empty if it passed."""
    try:
        check()
    except Exception:
        return traceback.format_exc()
    return ""


print(json.dumps({check.__name__: result(check) for check in (bfloat16, tf32, some_rows, cascade, fast_precision)}))
