"""Scores of inputs unlike the training data, larger for inputs like them, and how well a score separates the two."""

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ..checks import Array, as_tensor, check_count


def max_probability(logits: Array) -> Any:
    """Return the probability of the most probable class (Hendrycks & Gimpel 2017, https://arxiv.org/abs/1610.02136).

    Args:
        logits: Floating point `[N, K]`.

    Returns:
        `[N]`, float64; a tensor for a tensor, otherwise a numpy array.

    Raises:
        ValueError: If the shape is not `[N, K]`.

    >>> max_probability([[0.0, 0.0], [0.0, 100.0]])
    array([0.5, 1. ])
    """
    return _like(logits, _matrix("logits", logits).softmax(1).amax(1))


def energy(logits: Array, temperature: float = 1.0) -> Any:
    r"""Return the negative free energy, :math:`T \log \sum_k e^{z_k / T}`.

    See `Liu et al. 2020 <https://arxiv.org/abs/2010.03759>`_.

    Args:
        logits: Floating point `[N, K]`.
        temperature: T, above 0.

    Returns:
        `[N]`, float64; a tensor for a tensor, otherwise a numpy array.

    Raises:
        ValueError: If the shape is not `[N, K]`, or the temperature is not above 0.

    >>> energy([[0.0, 0.0], [3.0, -100.0]]).round(4)
    array([0.6931, 3.    ])
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, found {temperature!r}")
    return _like(logits, temperature * (_matrix("logits", logits) / temperature).logsumexp(1))


class KNearestScore:
    """Minus the distance to the k-th nearest training feature, features scaled to length 1; found by Faiss.

    See Sun et al. 2022, https://arxiv.org/abs/2204.06507.

    Args:
        k: Which neighbour, at least 1.

    Raises:
        ValueError: If k is not a positive integer or exceeds the number of features, the shape is not `[N, D]`, a
            feature is not finite, or `fit` comes after the call.

    >>> score = KNearestScore(k=1).fit([[1.0, 0.0], [0.0, 1.0]])
    >>> score([[2.0, 0.0], [1.0, 1.0]]).round(4)
    array([-0.    , -0.7654], dtype=float32)
    """

    def __init__(self, k: int = 50) -> None:
        self.k = check_count("k", k)

    def fit(self, features: Array) -> Self:
        """Take the features of training examples, `[N, D]`."""
        import faiss

        rows = _directions(features)
        if len(rows) < self.k:
            raise ValueError(f"k={self.k} neighbours need as many features, found {len(rows)}: take a smaller k")
        self._index = faiss.IndexFlatL2(rows.shape[1])
        self._index.add(rows)
        return self

    def __call__(self, features: Array) -> Any:
        """Return the score of each example, `[N]`: a tensor for a tensor, otherwise a numpy array."""
        if not hasattr(self, "_index"):
            raise ValueError("KNearestScore is not fitted yet: call fit(features)")
        rows = _directions(features)
        if rows.shape[1] != self._index.d:
            raise ValueError(f"features must be [N, {self._index.d}], found {list(rows.shape)}")
        squares, _ = self._index.search(rows, self.k)
        # The squared distance of equal directions may be rounded to less than 0.
        return _like(features, torch.from_numpy(-np.sqrt(np.maximum(squares[:, -1], 0))))


def separation(inside: Array, outside: Array) -> dict[str, float]:
    """Return how well a score separates inputs like the training data from others.

    Args:
        inside: Scores of inputs like the training data, `[N]`.
        outside: Scores of others, `[M]`.

    Returns:
        `auroc`, the probability that one of the first has a larger score than one of the others (ties count half), and
        `fpr95`, the share of others that is accepted by the largest threshold that accepts 95 % of the first.

    Raises:
        ValueError: If one of them is empty or not a vector, or a score is NaN.

    >>> separation([0.9, 0.8, 0.7, 0.6], [0.1, 0.65])
    {'auroc': 0.875, 'fpr95': 0.5}
    """
    from sklearn.metrics import roc_auc_score

    first, others = (np.asarray(as_tensor(scores).double().cpu()) for scores in (inside, outside))
    if first.ndim != 1 or others.ndim != 1 or not len(first) or not len(others):
        raise ValueError(f"inside and outside must be [N] and [M], found {list(first.shape)} and {list(others.shape)}")
    if np.isnan(first).any() or np.isnan(others).any():
        raise ValueError("scores must be numbers, found NaN")
    _, ranks = np.unique(np.concatenate([first, others]), return_inverse=True)  # scikit-learn refuses infinite scores
    area = roc_auc_score(np.repeat([1, 0], [len(first), len(others)]), ranks)
    accepted = -(-len(first) * 95 // 100)  # 95 % of them, rounded up
    threshold = np.sort(first)[-accepted]
    return {"auroc": float(area), "fpr95": float(np.mean(others >= threshold))}


def _matrix(name: str, values: Array) -> Tensor:
    matrix = as_tensor(values)
    if matrix.ndim != 2:
        raise ValueError(f"{name} must be [N, K], found {list(matrix.shape)}")
    return matrix.double()


def _directions(features: Array) -> Any:
    rows = _matrix("features", features).cpu()
    if not rows.isfinite().all():  # Faiss would find neighbours at any distance
        raise ValueError("features must be finite, found NaN or infinite ones")
    return np.ascontiguousarray(torch.nn.functional.normalize(rows).float())


def _like(given: Array, values: Tensor) -> Any:
    return values.to(given.device) if isinstance(given, Tensor) else np.asarray(values)
