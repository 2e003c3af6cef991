"""clustering.balanced: sizes within the bounds, and costs that no other labels with such sizes undercut."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from clustering.balanced import balanced_kmeans, balanced_labels


def cheapest(costs, low, high):
    """Return the least cost of all labels with such sizes, by trying them all."""
    n, k = costs.shape
    every = np.array(list(itertools.product(range(k), repeat=n)))
    sizes = (every[:, :, None] == np.arange(k)).sum(1)
    fits = (sizes >= low).all(1) & (sizes <= high).all(1)
    return costs[np.arange(n), every[fits]].sum(1).min()


@pytest.mark.parametrize("seed", range(60))
def test_labels_are_the_cheapest_of_all(seed):
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(2, 8)), int(rng.integers(1, 4))
    costs = rng.normal(size=(n, k)) if seed % 2 else rng.integers(0, 4, (n, k)).astype(float)
    low, high = int(rng.integers(0, n // k + 1)), int(rng.integers(-(-n // k), n + 1))
    labels, prices = balanced_labels(costs, low, high, rng.normal(size=k) if seed % 3 else None)
    sizes = np.bincount(labels, minlength=k)
    assert low <= sizes.min()
    assert sizes.max() <= high
    assert costs[np.arange(n), labels].sum() == pytest.approx(cheapest(costs, low, high), abs=1e-9)
    priced = costs + prices
    np.testing.assert_allclose(priced[np.arange(n), labels], priced.min(1), atol=1e-9)


def test_labels_agree_with_linear_programming():
    rng = np.random.default_rng(0)
    n, k = 200, 6
    rows = rng.normal(size=(n, 3)) * [4, 1, 1]
    costs = np.square(rows[:, None] - rows[:k]).sum(2)
    labels, _ = balanced_labels(costs, 30, 40)
    of_cluster, of_row = np.tile(np.eye(k), n), np.repeat(np.eye(n), k, axis=1)
    limits = {"A_ub": np.vstack([of_cluster, -of_cluster]), "b_ub": [40] * k + [-30] * k}
    best = linprog(costs.ravel(), A_eq=of_row, b_eq=np.ones(n), method="highs", **limits)
    assert costs[np.arange(n), labels].sum() == pytest.approx(best.fun, rel=1e-9)
    assert 30 <= np.bincount(labels).min() <= np.bincount(labels).max() <= 40


@pytest.mark.parametrize(("tolerance", "low", "high"), [(0.0, 12, 13), (0.2, 10, 15), (9.0, 0, 100)])
def test_clusters_have_sizes_within_the_tolerance(tolerance, low, high):
    rng = np.random.default_rng(1)
    rows = np.concatenate([rng.normal(size=(40, 2)), 20 + rng.normal(size=(10, 2))])
    found = balanced_kmeans(rows, 4, tolerance)
    sizes = np.bincount(found.labels, minlength=4)
    assert low <= sizes.min() <= sizes.max() <= high
    means = np.stack([rows[found.labels == cluster].mean(0) for cluster in range(4)])
    np.testing.assert_allclose(found.centres, means, atol=1e-9)  # it has converged
    assert found.inertia == pytest.approx(np.square(rows - means[found.labels]).sum())
    again = balanced_kmeans(rows, 4, tolerance)
    assert (again.labels == found.labels).all()


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="5 rows cannot make 2 clusters of 3 to 3 rows"):
        balanced_labels(np.zeros((5, 2)), 3, 3)
    with pytest.raises(ValueError, match="k must be 1 to the number of rows, 2, found 3"):
        balanced_kmeans([[0.0], [1.0]], 3)
    with pytest.raises(ValueError, match="tolerance must be a finite number of at least 0, found -1"):
        balanced_kmeans([[0.0], [1.0]], 2, tolerance=-1)
