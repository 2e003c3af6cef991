"""Classify two digits by a linear support vector machine whose L1 penalty keeps few pixels.

    python scripts/linear_svm.py                        # scikit-learn's digits, 5 against 8
    python scripts/linear_svm.py --data mnist           # MNIST from DATA_DIR

Cross-validation chooses C for the L1 penalty; at this C, machines with the L1 and the L2 penalty are fitted to all
training images. The output folder gets `results.json` and `linear_svm.png` with the scores over C and each pixel's
weight.

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
from matplotlib.figure import Figure
from scipy.sparse import csr_matrix
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import LinearSVC

from _common.cli import at_least, experiment
from _common.console import print_rows
from _common.digit_images import Source, pair, read_digits
from _common.errors import warn
from _common.run import Run

Pixels = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Scores = dict[float, dict[str, float]]
SMALL = 1_000_000
"""Number of values in the training set below which starting more processes takes longer than it saves."""
SCORES = ("mean_train_score", "std_train_score", "mean_test_score", "std_test_score")


def run(
    data: Source = "digits",
    digits: tuple[int, int] = (5, 8),
    grid: tuple[float, ...] = (0.025, 0.05, 0.1, 0.2, 0.4),
    folds: int = 5,
    data_dir: str | None = None,
    output: Path | None = None,
    seed: int = 0,
    jobs: int | None = None,
) -> dict[str, Any]:
    """Classify two digits by linear support vector machines; return the contents of results.json.

    Args:
        data: Data set: digits (scikit-learn's, no download) or mnist.
        digits: The two digits, such as [3,7].
        grid: Values of C to compare, such as [0.1,1].
        folds: Number of cross-validation folds.
        data_dir: Folder of MNIST; by default the environment variable DATA_DIR, or data if it is not set.
        output: Output folder; by default a new one under runs/.
        seed: Random seed.
        jobs: Number of processes; by default one per core, or a single one for small data.
    """
    if not grid or min(grid) <= 0:
        raise ValueError(f"--grid must hold values of C greater than 0, found {list(grid)}")
    at_least(1, jobs=1 if jobs is None else jobs)
    at_least(2, folds=folds)
    first, second = sorted(digits)
    train, test = (pair(read_digits(data, part, data_dir), first, second) for part in ("train", "test"))
    x, x_test = (part.images.reshape(len(part.images), -1) / 255.0 for part in (train, test))
    start = time.perf_counter()
    scores, machines = fit_all(x, train.labels, grid, folds, seed, jobs)
    seconds = time.perf_counter() - start
    for name, model in machines.items():
        if model.n_iter_ >= model.max_iter:
            warn(f"the {name} machine did not converge in {model.max_iter} iterations")
    results = {
        "title": f"{data}: {first} against {second}, {len(x):,} training and {len(x_test):,} test images",
        "data": data,
        "digits": [first, second],
        "train_images": len(x),
        "test_images": len(x_test),
        "folds": folds,
        "seed": seed,
        "scores": {str(c): row for c, row in scores.items()},
        "best_C": best(scores),
        "models": {name: describe(model, x, train.labels, x_test, test.labels) for name, model in machines.items()},
        "pixels": x.shape[1],
        "pixels_never_lit": int((~x.any(0)).sum()),
        "seconds": seconds,
        "files": {"figure": "linear_svm.png", "results": "results.json"},
    }
    weights = {name: model.coef_.reshape(train.images.shape[1:]) for name, model in machines.items()}
    out = Run.at(output)
    draw(scores, weights, results).savefig(out.folder / "linear_svm.png", dpi=100)
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
        "fraction_zero_of_lit_pixels": float(zeros[x.any(0)].mean()),
        "weights": model.coef_[0].tolist(),
        "iterations": int(model.n_iter_),
    }


def draw(scores: Scores, weights: dict[str, Pixels], results: dict[str, Any]) -> Figure:
    """Draw the scores over C, and a map of each machine's weights."""
    figure = Figure(figsize=(12, 3.7), layout="constrained")
    axes, *maps = figure.subplots(1, 1 + len(weights), width_ratios=[1.15, *[1] * len(weights)])
    grid = sorted(scores)
    for part, colour in (("train", "#777777"), ("test", "#4878a8")):
        means, spreads = (np.array([100 * scores[c][f"{kind}_{part}_score"] for c in grid]) for kind in ("mean", "std"))
        axes.plot(grid, means, "o-", markersize=4, color=colour, label=f"{part} part of the folds")
        axes.fill_between(grid, means - spreads, means + spreads, color=colour, alpha=0.18, linewidth=0)
    axes.axvline(results["best_C"], color="#c1272d", linewidth=1, linestyle="--", label=f"best, {results['best_C']:g}")
    axes.set(xscale="log", xlabel="C", ylabel="accuracy, %", title=f"L1: mean ± sd of {results['folds']} folds")
    axes.set_xticks(grid, [f"{c:g}" for c in grid])
    axes.minorticks_off()
    axes.legend(fontsize=8)
    first, second = results["digits"]
    label = f"for {first}   ←   weight   →   for {second}"
    for panel, (name, values) in zip(maps, weights.items(), strict=True):
        # A few weights are so much larger than the others that these would be pale beside them.
        limit = float(np.quantile(np.abs(values[values != 0]), 0.98)) if values.any() else 1.0
        panel.set_facecolor("#d9d9d9")  # exact zeros are masked
        masked = np.ma.masked_equal(values, 0)
        image = panel.imshow(masked, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        figure.colorbar(image, ax=panel, shrink=0.9, extend="both", label=label)
        row = results["models"][name]
        panel.set_title(f"{name}: test {row['test_accuracy']:.2%}, {row['fraction_zero']:.0%} zeros (grey)")
        panel.set(xticks=[], yticks=[])
    return figure


def report(results: dict[str, Any]) -> None:
    """Print the table of the search and the table of both machines."""
    rows = {f"{c}{' (best)' * (float(c) == results['best_C'])}": row for c, row in results["scores"].items()}
    title = f"{results['title']}; accuracy of the L1 machine, {results['folds']} folds"
    print_rows(title, rows, "C", dict(zip(SCORES, ("train", "train, sd", "test", "test, sd"), strict=True)))
    columns = {"train_accuracy": "train", "test_accuracy": "test", "zeros": "zeros", "fraction_zero": "share of zeros"}
    columns["fraction_zero_of_lit_pixels"] = "share of zeros among pixels that are ever lit"
    title = f"accuracy at C = {results['best_C']:g}, fitted to all training images"
    print_rows(title, results["models"], "penalty", columns)


main = experiment(run)

if __name__ == "__main__":
    main()
