"""K-means in the plainest float64, for small data."""

import itertools

import numpy as np


def squared_distances(rows, centres):
    return ((np.asarray(rows, dtype=np.float64)[:, None] - np.asarray(centres, dtype=np.float64)) ** 2).sum(axis=2)


def objective(rows, centres, weights=None):
    nearest = squared_distances(rows, centres).min(axis=1)
    return float(nearest.sum() if weights is None else nearest @ weights)


def best_objective(rows, clusters):
    """The smallest objective over all partitions into at most ``clusters`` parts."""
    best = np.inf
    for labels in itertools.product(range(clusters), repeat=len(rows)):
        labels = np.array(labels)
        parts = [rows[labels == cluster] for cluster in range(clusters)]
        best = min(best, sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts if len(part)))
    return float(best)


def lloyd(rows, centres, weights, passes):
    """Lloyd's iterations; a cluster without rows keeps its centre."""
    centres = np.array(centres, dtype=np.float64)
    for _ in range(passes):
        labels = squared_distances(rows, centres).argmin(axis=1)
        for cluster in range(len(centres)):
            mine = labels == cluster
            if weights[mine].sum() > 0:
                centres[cluster] = np.average(rows[mine], axis=0, weights=weights[mine])
    return centres
