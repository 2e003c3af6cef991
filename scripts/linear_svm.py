"""Separate two classes by a linear support vector machine whose L1 penalty keeps few pixels or columns.

    python scripts/linear_svm.py                                    # scikit-learn's digits, 5 against 8
    python scripts/linear_svm.py --data mnist --classes 3 5         # MNIST from DATA_DIR
    python scripts/linear_svm.py --data FOLDER --data.image_size 32 --classes cat dog
    python scripts/linear_svm.py --data FILE.csv --data.target species --classes setosa virginica
    python scripts/linear_svm.py --data CIFAR10DataModule --data.train_size 2000

Cross-validation chooses C for the L1 penalty; at this C, machines with the L1 and the L2 penalty are fitted to all
training rows. Pixels are scaled to 0..1, columns of a table to mean 0 and standard deviation 1. The output folder gets
`results.json` and `linear_svm.png` with the scores over C, and the weights as pictures (one for each channel) or, where
rows are columns of a table, as bars with their names.

The fits are scikit-learn's and give its scores, in less time: the folds are fitted in parallel, and rows are sorted by
margin, so that branch prediction and the cache work better in liblinear's inner loop; only rounding changes.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from joblib import Parallel, cpu_count, delayed, parallel_config
from scipy.sparse import csr_matrix
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import LinearSVC

from _common.any_data import data_module
from _common.cli import at_least, experiment
from _common.console import print_rows
from _common.described import Described, gather, parts, repeated
from _common.errors import warn
from _common.run import Run
from _linear_svm.examples import as_texts, read_pair
from _linear_svm.figure import draw

Pixels = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Scores = dict[float, dict[str, float]]
SMALL = 1_000_000
"""Number of values in the training set below which starting more processes takes longer than it saves."""
SCORES = ("mean_train_score", "std_train_score", "mean_test_score", "std_test_score")


def run(
    data: Described = "digits",
    classes: list[str] | None = None,
    grid: tuple[float, ...] = (0.025, 0.05, 0.1, 0.2, 0.4),
    folds: int = 5,
    data_dir: str | None = None,
    output: Path | None = None,
    seed: int = 0,
    jobs: int | None = None,
) -> dict[str, Any]:
    """Separate two classes by linear support vector machines; return the contents of results.json.

    Args:
        data: Data set: digits (scikit-learn's, no download), mnist, a data module (with options --data.OPTION), a
            CSV file, or a folder of images.
        classes: The two classes, by name or number, such as 5 8; by default these, or the first two.
        grid: Values of C to compare, such as [0.1,1].
        folds: Number of cross-validation folds.
        data_dir: Folder of the data; by default the environment variable DATA_DIR, or data if it is not set.
        output: Output folder; by default a new one under runs/.
        seed: Random seed.
        jobs: Number of processes; by default one per core, or a single one for small data.
    """
    if not grid or min(grid) <= 0:
        raise ValueError(f"--grid must hold values of C greater than 0, found {list(grid)}")
    at_least(1, jobs=1 if jobs is None else jobs)
    at_least(2, folds=folds)
    described = data_module(data, data_dir=data_dir, val_size=0, seed=seed)
    pair = read_pair(described, as_texts(classes or []))
    source, _ = parts(data, "data")
    x, x_test, kind = pair.x, pair.x_test, "images" if len(pair.shape) == 3 else "rows"
    start = time.perf_counter()
    scores, machines = fit_all(x, pair.y, grid, folds, seed, jobs)
    seconds = time.perf_counter() - start
    for name, model in machines.items():
        if model.n_iter_ >= model.max_iter:
            warn(f"the {name} machine did not converge in {model.max_iter} iterations")
    results = {
        "title": f"{source}: {' against '.join(pair.names)}, {len(x):,} training and {len(x_test):,} test {kind}",
        "data": data,
        "classes": list(pair.names),
        "train": len(x),
        "test": len(x_test),
        "folds": folds,
        "seed": seed,
        "scores": {str(c): row for c, row in scores.items()},
        "best_C": best(scores),
        "models": {name: describe(model, x, pair.y, x_test, pair.y_test) for name, model in machines.items()},
        "shape": list(pair.shape),
        "columns": pair.columns,
        "empty_columns": int((~x.any(0)).sum()),
        "seconds": seconds,
        "files": {"figure": "linear_svm.png", "results": "results.json"},
    }
    out = Run.at(output)
    weights = {name: model.coef_[0] for name, model in machines.items()}
    draw(scores, weights, pair, results).savefig(out.folder / "linear_svm.png", dpi=100)
    report(results)
    return out.finish(results)


def fit_all(
    pixels: Pixels, labels: Labels, grid: Sequence[float], folds: int, seed: int, jobs: int | None
) -> tuple[Scores, dict[str, LinearSVC]]:
    """Search over C, then fit the machines `"L1"` and `"L2"` at the best C to pixels `[N, D]` of two classes."""
    x = csr_matrix(pixels)  # liblinear's own format; dense rows would be converted for every fit
    decisions = machine("l2", seed, min(grid)).fit(x, labels).decision_function(x)
    order = np.argsort(np.where(labels == labels.max(), decisions, -decisions), kind="stable")  # by margin
    x, y = x[order], labels[order]
    with parallel_config("loky", n_jobs=jobs or (cpu_count() if pixels.size > SMALL else 1)):
        scores = search(x, y, order, grid, folds, seed)
        fitted: Any = Parallel()(delayed(machine(kind, seed, best(scores)).fit)(x, y) for kind in ("l1", "l2"))
    return scores, dict(zip(("L1", "L2"), fitted, strict=True))


def machine(penalty: Literal["l1", "l2"], seed: int, c: float = 1.0) -> LinearSVC:
    """Return an unfitted linear support vector machine with squared hinge loss, solved in the primal."""
    return LinearSVC(loss="squared_hinge", penalty=penalty, dual=False, random_state=seed, C=c)


def search(
    x: csr_matrix, y: Labels, order: npt.NDArray[np.intp], grid: Sequence[float], folds: int, seed: int
) -> Scores:
    """Cross-validate the L1 machine at each C, by scikit-learn's folds of the data set before it was put in `order`."""
    place = np.argsort(order)  # row of each example of the data set
    splits = StratifiedKFold(folds).split(order, y[place])
    # Large values of C take longest: they start first, so that no process works alone at the end.
    descending = sorted(grid, reverse=True)
    results = GridSearchCV(
        machine("l1", seed),
        {"C": descending},
        cv=[(np.sort(place[train]), np.sort(place[test])) for train, test in splits],
        scoring="accuracy",
        return_train_score=True,
        refit=False,
    ).fit(x, y)
    return {c: {key: float(results.cv_results_[key][descending.index(c)]) for key in SCORES} for c in sorted(grid)}


def best(scores: Scores) -> float:
    """Return the C with the best mean test score; the smallest of equal ones, as scikit-learn does."""
    return max(sorted(scores), key=lambda c: scores[c]["mean_test_score"])


def describe(model: LinearSVC, x: Pixels, y: Labels, x_test: Pixels, y_test: Labels) -> dict[str, Any]:
    """Return a fitted machine's accuracies, its weights, and how many of them are exactly 0."""
    zeros = model.coef_[0] == 0
    return {
        "train_accuracy": float(model.score(x, y)),
        "test_accuracy": float(model.score(x_test, y_test)),
        "zeros": int(zeros.sum()),
        "fraction_zero": float(zeros.mean()),
        "fraction_zero_of_filled": float(zeros[x.any(0)].mean()),
        "weights": model.coef_[0].tolist(),
        "iterations": int(model.n_iter_),
    }


def report(results: dict[str, Any]) -> None:
    """Print the table of the search and the table of both machines."""
    rows = {f"{c}{' (best)' * (float(c) == results['best_C'])}": row for c, row in results["scores"].items()}
    title = f"{results['title']}; accuracy of the L1 machine, {results['folds']} folds"
    print_rows(title, rows, "C", dict(zip(SCORES, ("train", "train, sd", "test", "test, sd"), strict=True)))
    columns = {"train_accuracy": "train", "test_accuracy": "test", "zeros": "zeros", "fraction_zero": "share of zeros"}
    columns["fraction_zero_of_filled"] = "share of zeros among columns that are not empty"
    title = f"accuracy at C = {results['best_C']:g}, fitted to all training rows"
    print_rows(title, results["models"], "penalty", columns)


main = experiment(run, words=lambda words: repeated(gather(words, "data"), "classes"))

if __name__ == "__main__":
    main()
