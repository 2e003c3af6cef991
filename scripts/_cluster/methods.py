"""The methods that `cluster.py` compares, and the sets that it generates."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import faiss
import numpy as np
import numpy.typing as npt
from sklearn import cluster, datasets
from sklearn.utils import gen_batches

from clustering import KMeans, adjusted_rand_score, rand_score

Array = npt.NDArray[Any]


class Clustering(NamedTuple):
    """One method's result."""

    labels: Array  # [N]
    centres: Array  # [K, D]
    seconds: float  # from the data to the labels


def timed(method: Callable[..., tuple[Array, Array]]) -> Callable[..., Clustering]:
    """Decorate a method that returns labels and centres: measure the time that it takes."""

    def measured(*args: Any) -> Clustering:
        began = time.perf_counter()
        labels, centres = method(*args)
        return Clustering(labels, centres, time.perf_counter() - began)

    return measured


@timed
def ours(data: Array, model: KMeans) -> tuple[Array, Array]:
    """Fit our KMeans."""
    model.fit(data)
    return model.labels_, model.cluster_centers_


@timed
def of_faiss(data: Array, k: int, seed: int) -> tuple[Array, Array]:
    """Fit `faiss.Kmeans` to all of the data, 25 iterations."""
    model = faiss.Kmeans(data.shape[1], k, niter=25, max_points_per_centroid=10**9, seed=seed + 1)
    model.train(data)
    _, labels = model.index.search(data, 1)
    return labels[:, 0], np.asarray(model.centroids)


@timed
def of_sklearn(data: Array, k: int, seed: int) -> tuple[Array, Array]:
    """Fit scikit-learn's KMeans, one initialisation."""
    model = cluster.KMeans(k, n_init=1, random_state=seed).fit(data)
    return model.labels_, model.cluster_centers_


def inertia(data: Array, clustering: Clustering) -> float:
    """Return the sum of squared distances of all data to their centres, in float64."""
    centres = clustering.centres.astype(np.float64)
    batches = gen_batches(len(data), 1 << 15)
    return sum(float(np.square(data[rows] - centres[clustering.labels[rows]]).sum()) for rows in batches)


def scores(data: Array, truth: Array, clusterings: dict[str, Clustering]) -> dict[str, dict[str, float]]:
    """Return each method's time, objective, and agreement with the truth and with every other method."""
    rows = {name: {"seconds": one.seconds, "inertia": inertia(data, one)} for name, one in clusterings.items()}
    labels = {"truth": truth} | {name: one.labels for name, one in clusterings.items()}
    for name, row in rows.items():
        for other in (other for other in labels if other != name):
            row[f"Rand, {other}"] = rand_score(labels[other], labels[name])
            row[f"adjusted Rand, {other}"] = adjusted_rand_score(labels[other], labels[name])
    return rows


def estimators(points: Array, clusters: int, seed: int) -> dict[str, Any]:
    """Return the estimators that are compared on standardised points in two dimensions."""
    return {
        "KMeans": KMeans(clusters, random_state=seed),
        "DBSCAN": cluster.DBSCAN(eps=0.2),
        "MeanShift": cluster.MeanShift(bandwidth=cluster.estimate_bandwidth(points, quantile=0.2, random_state=seed)),
        "HDBSCAN": cluster.HDBSCAN(min_cluster_size=15, copy=True),
    }


def generated_sets(samples: int, seed: int) -> dict[str, tuple[Array, Array]]:
    """Return points `[samples, 2]` and labels of six kinds, as in scikit-learn's comparison of clusterings."""
    blobs, truth = datasets.make_blobs(samples, random_state=seed)
    rng = np.random.default_rng(seed)
    return {
        "circles": datasets.make_circles(samples, factor=0.5, noise=0.05, random_state=seed),
        "moons": datasets.make_moons(samples, noise=0.05, random_state=seed),
        "blobs": (blobs, truth),
        "stretched": (blobs @ np.array([[0.6, -0.6], [-0.4, 0.8]]), truth),
        "varied": datasets.make_blobs(samples, cluster_std=[1.0, 2.5, 0.5], random_state=seed + 170),
        "none": (rng.random((samples, 2)), np.zeros(samples, dtype=int)),
    }
