"""The fits of ``linear_svm.py``: the search over C, and the two machines at the best C."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from joblib import Parallel, cpu_count, delayed, parallel_config
from scipy.sparse import csr_matrix
from sklearn.model_selection import GridSearchCV
from sklearn.svm import LinearSVC

SMALL = 1_000_000
"""Values in the training set below which further processes would take longer to start than they save."""


def machine(penalty: Literal["l1", "l2"], seed: int, C: float = 1.0) -> LinearSVC:
    """A linear support vector machine with the squared hinge loss, solved in the primal."""
    return LinearSVC(loss="squared_hinge", penalty=penalty, dual=False, random_state=seed, C=C)


def search(
    x: csr_matrix, y: npt.NDArray[np.int64], grid: Sequence[float], folds: int, seed: int
) -> dict[float, dict[str, float]]:
    """Cross-validated accuracy of the L1 machine at each C of ``grid``, in its order."""
    # The larger C, the longer the fit: begun first, so that no process works alone at the end.
    longest_first = sorted(grid, reverse=True)
    found = GridSearchCV(
        machine("l1", seed), {"C": longest_first}, cv=folds, scoring="accuracy", return_train_score=True, refit=False
    ).fit(x, y)
    columns = ("mean_train_score", "std_train_score", "mean_test_score", "std_test_score")
    return {c: {name: float(found.cv_results_[name][longest_first.index(c)]) for name in columns} for c in sorted(grid)}


def best(scores: dict[float, dict[str, float]]) -> float:
    """The C with the best mean test score; the smallest of equals, as in scikit-learn on a rising grid."""
    return max(sorted(scores), key=lambda c: scores[c]["mean_test_score"])


def fit_all(
    pixels: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    grid: Sequence[float],
    folds: int,
    seed: int,
    jobs: int | None,
) -> tuple[dict[float, dict[str, float]], dict[str, LinearSVC]]:
    """Search over C, then fit the L1 and the L2 machine at the best one.

    Args:
        pixels: ``[N, D]``.
        labels: ``[N]``, two classes.
        grid: The values of C.
        folds: Of the cross-validation.
        seed: Of every fit.
        jobs: Processes; None is one for each core, or this one alone for small data.

    Returns:
        The scores of each C, and the two machines by ``"L1"`` and ``"L2"``.
    """
    x = csr_matrix(pixels)  # liblinear works on sparse rows; it would convert dense ones anew for each fit
    workers = jobs or (cpu_count() if pixels.size > SMALL else 1)
    with parallel_config("loky", n_jobs=workers):
        scores = search(x, labels, grid, folds, seed)
        refit: Any = Parallel()(delayed(machine(kind, seed, best(scores)).fit)(x, labels) for kind in ("l1", "l2"))
    return scores, dict(zip(("L1", "L2"), refit, strict=True))
