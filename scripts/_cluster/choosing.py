"""The number of clusters, chosen by the silhouette."""

import re
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.metrics import silhouette_score

from clustering import KMeans

LARGEST = 5_000
"""Number of rows, drawn at random, whose silhouettes are computed in a larger set: their time is its square."""


def read_k(text: str | None, classes: int, rows: int) -> list[int]:
    """Return the numbers of clusters that `--k` names: one, a range `2..20`, or by default that of the classes.

    Raises:
        ValueError: If it is none of these, or there are too few rows.

    Example:
        >>> read_k("2..5", 10, 100), read_k("8", 10, 100), read_k(None, 10, 100)
        ([2, 3, 4, 5], [8], [10])
    """
    match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", (str(classes) if text is None else text).strip())
    if match is None:
        raise ValueError(f"--k must be a number or a range such as 2..20, found {text}")
    first, last = int(match[1]), int(match[2] or match[1])
    if first < (2 if match[2] else 1) or last < first or last > rows - bool(match[2]):
        largest = f"a range from at least 2 to at most {rows - 1}" if match[2] else f"1 to {rows}"
        raise ValueError(f"--k must be {largest}, found {text}")
    return list(range(first, last + 1))


def silhouettes(
    values: npt.NDArray[Any], counts: list[int], metric: Literal["euclidean", "cosine"], seed: int
) -> dict[int, float]:
    """Return the mean silhouette of k-means with each number of clusters (Rousseeuw 1987); the largest is best.

    The silhouette of a row is (b - a) / max(a, b), where a is its mean distance to the others of its cluster, and b
    that to the rows of the nearest other cluster.
    """
    chosen = np.random.default_rng(seed).permutation(len(values))[:LARGEST]
    found = {}
    for k in counts:
        labels = np.asarray(KMeans(k, metric=metric, random_state=seed).fit(values).labels_)[chosen]
        several = 1 < len(np.unique(labels)) < len(chosen)
        found[k] = float(silhouette_score(values[chosen], labels, metric=metric)) if several else -1.0
    return found
