"""Sums, seeding and local search on a device."""

from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from torch.overrides import TorchFunctionMode

from clustering.engine.gpu.local_search import _cut, _exchanges, split_and_merge, swap
from clustering.engine.gpu.points import Points, TwoNearest
from clustering.engine.gpu.seeding import plus_plus
from clustering.engine.gpu.sums import add_steps, step_for, sums_by
from reference.kmeans import objective, squared_distances

ROWS, TRUTH = make_blobs(1_500, 3, centers=12, cluster_std=0.4, random_state=3)
WEIGHTS = np.random.default_rng(1).exponential(size=1_500)
BAD = ROWS[TRUTH < 3][:12]  # all centres in three of twelve groups
GOOD = np.array([ROWS[i == TRUTH].mean(axis=0) for i in range(12)])


def points(weights=None, rows=ROWS, seed=0):
    weights = None if weights is None else torch.from_numpy(weights)
    return Points(torch.from_numpy(rows), weights, torch.Generator().manual_seed(seed))


def test_sums_in_any_order():
    values, labels = torch.from_numpy(ROWS), torch.from_numpy(TRUTH).long()
    step = step_for(1_500 * np.abs(ROWS).max())
    totals = []
    for order in (torch.arange(1_500), torch.randperm(1_500, generator=torch.Generator().manual_seed(0))):
        sums = torch.zeros(12, 3, dtype=torch.int64)
        add_steps(sums, labels[order], values[order], step)
        totals.append(sums)
        again = sums_by(labels[order], values[order], 12)
        expected = np.stack([ROWS[i == TRUTH].sum(axis=0) for i in range(12)])
        np.testing.assert_allclose(sums.numpy() * step, expected, rtol=1e-13, atol=1e-12)
        np.testing.assert_allclose(again, expected, rtol=1e-10, atol=1e-10)
    assert torch.equal(*totals)
    assert not sums_by(labels, torch.zeros(1_500, 2), 12).any()


def test_draws_are_proportional():
    weighted = points(WEIGHTS)
    potential = torch.arange(1_500.0)
    drawn = torch.cat([weighted.draw(potential, 1_000) for _ in range(10)])
    chances, least = weighted.chances(10, 1_000)  # as the seeding draws
    drawn = torch.cat([drawn, torch.addcmul(least, chances, potential).argmax(dim=2).flatten()])
    share = torch.bincount(drawn, minlength=1_500).view(-1, 100).sum(dim=1) / 20_000
    expected = (potential * weighted.weights).view(-1, 100).sum(dim=1)
    np.testing.assert_allclose(share, expected / expected.sum(), atol=8e-3)
    assert weighted.draw(torch.zeros(1_500), 1_000).unique().numel() > 500  # uniform
    chances, least = points().chances(1, 1_000)
    assert torch.addcmul(least, chances, torch.zeros(1_500)).argmax(dim=2).unique().numel() > 500
    assert (weighted.draw((torch.arange(1_500) == 1_499).float(), 50) == 1_499).all()


def test_plus_plus_covers_the_groups():
    for seed in range(5):
        chosen = plus_plus(points(seed=seed), 12).numpy()
        assert objective(ROWS, ROWS[chosen]) < 4 * objective(ROWS, GOOD)
    assert (plus_plus(points(rows=np.ones((5, 2))), 4) < 5).all()  # all coincide
    light = plus_plus(points(np.where(TRUTH < 4, 1.0, 0.0)), 8).numpy()
    assert (TRUTH[light] < 4).all()  # of rows without weight none is drawn


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_exchanges_gain_what_they_promise(weights):
    mine = points(weights)
    two = TwoNearest(mine, torch.from_numpy(BAD).float())
    np.testing.assert_array_equal(two.labels.T, np.argsort(squared_distances(ROWS, BAD), axis=1, kind="stable")[:, :2])
    candidates = mine.draw(two.squares[0], 64)
    (first, removed), *others = _exchanges(two, candidates)
    trial = BAD.copy()
    trial[removed] = ROWS[candidates[first]]
    after = objective(ROWS, trial, weights)
    assert after < objective(ROWS, BAD, weights)
    for number in range(0, 64, 9):  # the first is the best of all
        for cluster in range(12):
            other = BAD.copy()
            other[cluster] = ROWS[candidates[number]]
            assert objective(ROWS, other, weights) >= after * (1 - 1e-5)
    assert len({cluster for _, cluster in [(first, removed), *others]}) == 1 + len(others)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_both_searches_leave_a_bad_optimum(weights):
    best = objective(ROWS, GOOD, weights)
    start = torch.from_numpy(BAD).float()
    swapped, moved = swap(points(weights), start, 1_000)
    assert moved >= 9
    assert objective(ROWS, swapped.numpy(), weights) < 3 * best
    split, moved = split_and_merge(points(weights), start)
    assert moved > 0
    assert objective(ROWS, split.numpy(), weights) < objective(ROWS, BAD, weights)
    assert swap(points(weights), start[:1], 10)[1] == split_and_merge(points(weights), start[:2])[1] == 0


def test_the_gain_of_a_cut_is_what_two_means_lower():
    centres = GOOD[:6]
    two = TwoNearest(points(), torch.from_numpy(centres).float())
    halves, gains = _cut(two)
    for cluster in range(6):
        mine = ROWS[two.labels[0].numpy() == cluster]
        parts = squared_distances(mine, halves[:, cluster].numpy()).min(axis=1).sum()
        assert gains[cluster] == pytest.approx(objective(mine, mine.mean(axis=0)[None]) - parts, rel=0.15)


def test_an_empty_cluster_cuts_nothing():
    centres = np.concatenate([GOOD[:3], [[1e3, 1e3, 1e3]]])
    halves, gains = _cut(TwoNearest(points(), torch.from_numpy(centres).float()))
    assert gains[3] == 0
    assert halves.isfinite().all()


class Calls(TorchFunctionMode):
    """Counts calls of torch, each of which is at least a launch on a GPU; slices are not."""

    def __init__(self):
        super().__init__()
        self.names = Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.names[function.__name__] += function.__name__ not in ("__getitem__", "__get__")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("weights", "most"), [(None, 9), (WEIGHTS, 10)])
def test_a_centre_takes_few_launches_none_of_which_waits(weights, most):
    counts = []
    for clusters in (21, 41):  # with as many trials
        mine = points(weights)
        with Calls() as calls:
            plus_plus(mine, clusters)
        counts.append(calls.names)
    assert sum((counts[1] - counts[0]).values()) <= 20 * most
    assert not {"item", "tolist", "cpu", "to", "nonzero", "__bool__", "__float__", "__int__"} & set(counts[1])
