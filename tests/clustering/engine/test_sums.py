import numpy as np
import pytest

from clustering.engine.sums import add_by_cluster, grid_for, snap


def test_numbers_on_a_grid_add_up_in_any_order():
    numbers = np.random.default_rng(0).standard_normal(100_000) * np.logspace(-12, 0, 100_000)
    snapped = snap(numbers.copy(), grid_for(np.abs(numbers).sum()))
    total = snapped.sum()
    for seed in range(5):
        assert np.random.default_rng(seed).permutation(snapped).cumsum()[-1] == total
    assert total == pytest.approx(numbers.sum(), abs=1e-9)


@pytest.mark.parametrize("bound", [1e-300, 0.75, 1.0, 3e9])
def test_a_bound_has_fewer_than_2_53_steps(bound):
    assert bound / grid_for(bound) < 2.0**53
    assert bound / grid_for(bound) >= 2.0**50
    assert grid_for(0.0) == 1.0


@pytest.mark.parametrize("dim", [1, 8, 9, 40])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_sums_by_cluster_against_a_loop(dim, dtype):
    rng = np.random.default_rng(dim)
    rows, weights = rng.standard_normal((300, dim)).astype(dtype), rng.exponential(size=300)
    clusters = rng.integers(0, 5, 300)
    sums = rng.standard_normal((7, dim))
    expected = sums.copy()
    for row, weight, cluster in zip(rows, weights, clusters, strict=True):
        expected[cluster] += weight * row.astype(np.float64)
    add_by_cluster(sums, clusters, rows, weights)
    np.testing.assert_allclose(sums, expected, rtol=1e-12, atol=1e-12)
