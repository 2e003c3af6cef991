"""How well features tell the classes: by nearest neighbours, and by a linear classifier."""

from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Array = npt.NDArray[Any]


def knn_accuracy(train: Array, train_labels: Array, test: Array, labels: Array, neighbours: int) -> float:
    """Return the accuracy of the majority among the nearest training features, by cosine; a tie is the least class's.

    Example:
        >>> knn_accuracy(np.eye(2), np.array([0, 1]), np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([0, 1]), 1)
        1.0
    """
    index = faiss.IndexFlatIP(train.shape[1])
    index.add(_directions(train))
    _, found = index.search(_directions(test), min(neighbours, len(train)))
    classes, places = np.unique(train_labels, return_inverse=True)
    votes = np.zeros((len(test), len(classes)), dtype=np.int64)
    np.add.at(votes, (np.arange(len(test))[:, None], places[found]), 1)
    return float((classes[votes.argmax(1)] == labels).mean())


def linear_accuracy(train: Array, train_labels: Array, test: Array, labels: Array) -> float:
    """Return the accuracy of logistic regression on the features, standardised by the training ones."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return float(model.fit(train, train_labels).score(test, labels))


def _directions(features: Array) -> Array:
    rows = np.asarray(features, dtype=np.float64)
    return np.ascontiguousarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float32)
