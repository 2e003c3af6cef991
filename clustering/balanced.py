"""K-means whose clusters have equal sizes, or sizes within a tolerance of them."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .kmeans import KMeans

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


class Balanced(NamedTuple):
    """A clustering with sizes within bounds."""

    labels: Labels  # [N]
    centres: Array  # [K, D]
    inertia: float  # sum of squared distances to the centres
    iterations: int


def balanced_kmeans(data: Any, k: int, tolerance: float = 0.0, seed: int = 0, max_iter: int = 50) -> Balanced:
    r"""Return clusters of :math:`\lfloor (1 - t) N / K \rfloor` to :math:`\lceil (1 + t) N / K \rceil` rows.

    Lloyd's alternation from the centres of `KMeans`, with an assignment step that is exact: of all labels with sizes
    within the bounds, those with the least sum of squared distances (see `balanced_labels`). The sum never increases,
    and the fit ends at a local optimum. For rows that fit into memory, with their distances `[N, K]` in float64.

    Args:
        data: Rows `[N, D]`.
        k: Number of clusters, 1 to N.
        tolerance: The t, at least 0; 0 gives sizes that differ by at most one.
        seed: Seed of the first centres.
        max_iter: Largest number of iterations.

    Raises:
        ValueError: If k or the tolerance is out of range.

    Example:
        >>> found = balanced_kmeans([[0.0], [1.0], [2.0], [50.0]], 2)
        >>> np.bincount(found.labels).tolist()
        [2, 2]
    """
    rows = np.asarray(data, dtype=np.float64)
    if not 1 <= k <= len(rows):
        raise ValueError(f"k must be 1 to the number of rows, {len(rows)}, found {k}")
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be a finite number of at least 0, found {tolerance}")
    share = len(rows) / k
    low, high = math.floor((1 - min(tolerance, 1.0)) * share), math.ceil((1 + tolerance) * share)
    first = KMeans(k, random_state=seed).fit(rows.astype(np.float32)).cluster_centers_
    centres = np.asarray(first, dtype=np.float64)
    labels, prices = np.full(len(rows), -1), np.zeros(k)
    iteration = 0
    while iteration < max_iter:
        iteration += 1
        before = labels
        labels, prices = balanced_labels(_squares(rows, centres), low, high, prices)
        if (labels == before).all():
            break
        for cluster in range(k):
            if (members := rows[labels == cluster]).size:
                centres[cluster] = members.mean(0)
    inertia = float(np.square(rows - centres[labels]).sum())
    return Balanced(labels, centres, inertia, iteration)


def balanced_labels(costs: Array, low: int, high: int, prices: Array | None = None) -> tuple[Labels, Array]:
    """Return the labels of least total cost among all whose clusters have `low` to `high` rows, exactly.

    A transport problem, solved by successive shortest paths: each row starts at its cheapest cluster (cost plus price);
    then single rows move along the cheapest path of clusters from one with too many rows to one with room. The labels
    stay the cheapest for their sizes throughout, and no path that lowers the cost is left at the end: they are optimal
    up to rounding. Time grows with the rows that have to move, times the square of the number of clusters.

    Args:
        costs: Cost of each row in each cluster, `[N, K]`.
        low: Smallest size, at most N / K.
        high: Largest size, at least N / K.
        prices: Those of a similar problem, from which fewer rows have to move; they do not change the result's cost.

    Returns:
        Labels `[N]`, and prices `[K]` at which each row is in its cheapest cluster.

    Raises:
        ValueError: If no labels have such sizes.

    Example:
        >>> balanced_labels(np.array([[0.0, 5.0], [0.0, 1.0], [0.0, 2.0], [0.0, 9.0]]), 2, 2)[0]
        array([0, 1, 1, 0])
    """
    n, k = costs.shape
    if not (0 <= low * k <= n <= high * k):
        raise ValueError(f"{n} rows cannot make {k} clusters of {low} to {high} rows")
    start = np.zeros(k) if prices is None else prices
    labels: Labels = (costs + start).argmin(1)
    sizes = np.bincount(labels, minlength=k)
    tiny = 1e-12 * float(np.abs(costs).max(initial=0.0))
    edges, movers = np.full((k, k), np.inf), np.zeros((k, k), dtype=np.int64)

    def update(cluster: int) -> None:
        """Find the row that is cheapest to move to each other cluster."""
        members = np.flatnonzero(labels == cluster)
        edges[cluster] = np.inf
        if len(members):
            extra = costs[members] - costs[members, cluster][:, None]
            best = extra.argmin(0)
            edges[cluster], movers[cluster] = extra[best, np.arange(k)], members[best]
        edges[cluster, cluster] = np.inf

    for cluster in range(k):
        update(cluster)
    while True:
        if (sizes > high).any():
            sources, sinks = sizes > high, sizes < high
        elif (sizes < low).any():
            sources, sinks = sizes > low, sizes < low
        else:
            sources, sinks = sizes > low, sizes < high
        distance, before = _shortest(edges, sources, tiny)
        end = int(np.where(sinks, distance, np.inf).argmin())
        within = (sizes <= high).all() and (sizes >= low).all()
        if within and not (sinks.any() and distance[end] < -tiny * k):
            potentials, _ = _shortest(edges, np.ones(k, dtype=bool), tiny)
            return labels, -potentials
        path = [end]
        while before[path[-1]] >= 0:
            path.append(int(before[path[-1]]))
        moves = [(int(movers[a, b]), b) for a, b in zip(path[1:], path[:-1], strict=True)]
        for row, cluster in moves:
            labels[row] = cluster
        sizes[path[-1]] -= 1
        sizes[end] += 1
        for cluster in path:
            update(cluster)


def _shortest(edges: Array, sources: NDArray[np.bool_], tiny: float) -> tuple[Array, Labels]:
    """Return the distance of each cluster from the sources, and the cluster before it on the way (Bellman and Ford)."""
    distance = np.where(sources, 0.0, np.inf)
    before = np.full(len(edges), -1)
    for _ in range(len(edges)):
        through = distance[:, None] + edges
        best = through.argmin(0)
        shorter = through[best, np.arange(len(edges))]
        better = shorter < distance - tiny
        if not better.any():
            break
        distance[better], before[better] = shorter[better], best[better]
    return distance, before


def _squares(rows: Array, centres: Array) -> Array:
    """Return the squared distances `[N, K]`."""
    return np.stack([np.square(rows - centre).sum(1) for centre in centres], axis=1)
