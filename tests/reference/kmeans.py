"""K-means in the plainest float64, by loops, for small data."""

import itertools
import math

import numpy as np


def squared_distances(rows, centres):
    return ((np.asarray(rows, dtype=np.float64)[:, None] - np.asarray(centres, dtype=np.float64)) ** 2).sum(axis=2)


def objective(rows, centres, weights=None):
    nearest = squared_distances(rows, centres).min(axis=1)
    return float(nearest.sum() if weights is None else nearest @ weights)


def best_objective(rows, clusters):
    """Return the smallest objective over all partitions into at most `clusters` parts."""
    best = np.inf
    for labels in itertools.product(range(clusters), repeat=len(rows)):
        labels = np.array(labels)
        parts = [rows[labels == cluster] for cluster in range(clusters)]
        best = min(best, sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts if len(part)))
    return float(best)


def assign(rows, centres, weights):
    """Return labels (the first of equally near centres), weighted sums, counts and the objective, row by row."""
    labels, total = [], 0.0
    sums, counts = np.zeros((len(centres), rows.shape[1])), np.zeros(len(centres))
    for row, weight in zip(np.asarray(rows, dtype=np.float64), weights, strict=True):
        squares = [sum((x - c) ** 2 for x, c in zip(row, centre, strict=True)) for centre in centres]
        label = squares.index(min(squares))
        labels.append(label)
        sums[label] += weight * row
        counts[label] += weight
        total += weight * squares[label]
    return np.array(labels), sums, counts, total


def lloyd(rows, centres, weights, passes):
    """Return the centres after Lloyd's iterations; a cluster without rows keeps its centre."""
    centres = np.array(centres, dtype=np.float64)
    for _ in range(passes):
        labels = squared_distances(rows, centres).argmin(axis=1)
        for cluster in range(len(centres)):
            mine = labels == cluster
            if weights[mine].sum() > 0:
                centres[cluster] = np.average(rows[mine], axis=0, weights=weights[mine])
    return centres


def minibatch(batches, centres):
    """Return the centres after one step per batch, each centre at the rate 1 / (rows it has seen)."""
    centres, seen = np.array(centres, dtype=np.float64), np.zeros(len(centres))
    for batch in batches:
        labels = squared_distances(batch, centres).argmin(axis=1)
        moved = centres.copy()
        for cluster in range(len(centres)):
            mine = np.asarray(batch, dtype=np.float64)[labels == cluster]
            seen[cluster] += len(mine)
            if len(mine):
                moved[cluster] += (mine - centres[cluster]).sum(axis=0) / seen[cluster]
        centres = moved
    return centres


def plus_plus(rows, clusters, rng, batch):
    """Return the rows of greedy k-means++ with rejection: candidates are drawn `batch` at a time.

    One is rejected with the probability by which its distance to the centres has fallen since its batch was drawn.
    """
    squares = squared_distances(rows, rows)

    def draw(potential, count):
        running = np.cumsum(potential)
        return [int(np.searchsorted(running, u * running[-1], side="right")) for u in rng.random(count)]

    chosen = draw(np.ones(len(rows)), 1)
    queue: list[tuple[int, float, float]] = []
    while len(chosen) < clusters:
        closest = squares[:, chosen].min(axis=1)
        trials: list[int] = []
        while len(trials) < 2 + int(math.log(clusters)):
            if not queue:
                numbers = draw(closest, batch)
                queue = [(i, closest[i], u) for i, u in zip(numbers, rng.random(batch), strict=True)]
            row, before, threshold = queue.pop(0)
            if closest[row] >= threshold * before:
                trials.append(row)
        chosen.append(min(trials, key=lambda row: np.minimum(closest, squares[row]).sum()))
    return np.array(chosen)
