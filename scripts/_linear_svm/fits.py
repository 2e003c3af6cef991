"""The fits of ``linear_svm.py``: the search over C, and the two machines at the best C.

They are scikit-learn's own, and give its scores; two things make them faster. The folds of the search are fitted by
several processes. And the rows are in the order of their margins: the solver's inner loop asks of each row whether it
is on the wrong side, and where the rows that are stand together, a processor guesses the answer, and keeps in its cache
what is read again. The order of the rows is no part of the problem: only the rounding of sums depends on it.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from joblib import Parallel, cpu_count, delayed, parallel_config
from scipy.sparse import csr_matrix
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import LinearSVC

Labels = npt.NDArray[np.int64]
Scores = dict[float, dict[str, float]]
SMALL = 1_000_000
"""Values in the training set below which further processes would take longer to start than they save."""


def machine(penalty: Literal["l1", "l2"], seed: int, c: float = 1.0) -> LinearSVC:
    """A linear support vector machine with the squared hinge loss, solved in the primal."""
    return LinearSVC(loss="squared_hinge", penalty=penalty, dual=False, random_state=seed, C=c)


def by_margin(x: csr_matrix, y: Labels, c: float, seed: int) -> npt.NDArray[np.intp]:
    """The rows in the order of their margins under the L2 penalty, whose machine is quickly fitted."""
    decisions = machine("l2", seed, c).fit(x, y).decision_function(x)
    return np.argsort(np.where(y == y.max(), decisions, -decisions), kind="stable")


def search(
    x: csr_matrix, y: Labels, rank: npt.NDArray[np.intp], grid: Sequence[float], folds: int, seed: int
) -> Scores:
    """Cross-validated accuracy of the L1 machine at each C.

    Args:
        x: The rows, in any order.
        y: Their classes.
        rank: Where each row stands in the set; the folds are those of scikit-learn for the set in its own order.
        grid: The values of C.
        folds: Their number.
        seed: Of the fits.
    """
    place = np.argsort(rank)  # of each example of the set among the rows
    splits = [
        (np.sort(place[train]), np.sort(place[test])) for train, test in StratifiedKFold(folds).split(rank, y[place])
    ]
    # The larger C, the longer the fit: begun first, so that no process works alone at the end.
    longest_first = sorted(grid, reverse=True)
    found = GridSearchCV(
        machine("l1", seed), {"C": longest_first}, cv=splits, scoring="accuracy", return_train_score=True, refit=False
    ).fit(x, y)
    columns = ("mean_train_score", "std_train_score", "mean_test_score", "std_test_score")
    return {c: {name: float(found.cv_results_[name][longest_first.index(c)]) for name in columns} for c in sorted(grid)}


def best(scores: Scores) -> float:
    """The C with the best mean test score; the smallest of equals, as in scikit-learn on a rising grid."""
    return max(sorted(scores), key=lambda c: scores[c]["mean_test_score"])


def fit_all(
    pixels: npt.NDArray[np.float64], labels: Labels, grid: Sequence[float], folds: int, seed: int, jobs: int | None
) -> tuple[Scores, dict[str, LinearSVC]]:
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
    x = csr_matrix(pixels)  # the solver's own form; it would convert dense rows anew for each fit
    order = by_margin(x, labels, min(grid), seed)
    x, y = x[order], labels[order]
    workers = jobs or (cpu_count() if pixels.size > SMALL else 1)
    with parallel_config("loky", n_jobs=workers):
        scores = search(x, y, order, grid, folds, seed)
        refit: Any = Parallel()(delayed(machine(kind, seed, best(scores)).fit)(x, y) for kind in ("l1", "l2"))
    return scores, dict(zip(("L1", "L2"), refit, strict=True))
