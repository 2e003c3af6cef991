"""Figures of clusterings, and what the peers find."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import faiss
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from sklearn.cluster import KMeans as SklearnKMeans

from clustering import KMeans

Array = npt.NDArray[Any]
SHOWN = 5_000
"""Points of a figure."""


class Clustering(NamedTuple):
    """One method's answer.

    Attributes:
        labels: ``[N]``.
        centres: ``[K, D]``.
        seconds: From the data to the labels.
    """

    labels: Array
    centres: Array
    seconds: float


def timed(method: Callable[[], tuple[Array, Array]]) -> Clustering:
    """What a method finds, and how long it takes."""
    began = time.perf_counter()
    labels, centres = method()
    return Clustering(labels, centres, time.perf_counter() - began)


def ours(data: Array, k: int, **options: Any) -> tuple[Array, Array]:
    """Our KMeans."""
    model = KMeans(k, **options).fit(data)
    return model.labels_, model.cluster_centers_


def of_faiss(data: Array, k: int, seed: int) -> tuple[Array, Array]:
    """``faiss.Kmeans`` on all of the data, 25 iterations."""
    model = faiss.Kmeans(data.shape[1], k, niter=25, max_points_per_centroid=10**9, seed=seed + 1)
    model.train(data)
    _, labels = model.index.search(data, 1)
    return labels[:, 0], np.asarray(model.centroids)


def of_sklearn(data: Array, k: int, seed: int) -> tuple[Array, Array]:
    """scikit-learn's KMeans, one start."""
    model = SklearnKMeans(k, n_init=1, random_state=seed).fit(data)
    return model.labels_, model.cluster_centers_


def inertia(data: Array, found: Clustering) -> float:
    """The sum of squared distances of all data to their centres, in float64."""
    total = 0.0
    for start in range(0, len(data), 1 << 15):
        piece = slice(start, start + (1 << 15))
        difference = data[piece].astype(np.float64) - found.centres.astype(np.float64)[found.labels[piece]]
        total += float(np.einsum("ij,ij->", difference, difference))
    return total


def grid(panels: Sequence[Sequence[tuple[str, Array, Array]]], size: float = 2.6) -> Figure:
    """A grid of scatter plots: each panel a title, points ``[N, 2]`` and labels ``[N]`` (-1 for noise, drawn grey)."""
    figure = Figure(figsize=(size * len(panels[0]), size * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), len(panels[0]), squeeze=False)
    for row, line in zip(axes, panels, strict=True):
        for axis, (title, points, labels) in zip(row, line, strict=True):
            noise = labels < 0
            axis.scatter(*points[noise].T, s=3, color="0.75", linewidths=0)
            axis.scatter(*points[~noise].T, s=3, c=labels[~noise], cmap="tab20", linewidths=0)
            axis.set(title=title, xticks=[], yticks=[])
    return figure


def flat(points: Array) -> Array:
    """Points in two dimensions: as they are, or their first two principal components."""
    if points.shape[1] == 2:
        return points
    if points.shape[1] == 1:
        return np.column_stack([points[:, 0], np.zeros(len(points))])
    centred = points - points.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return centred @ directions[:2].T
