"""Two digits told apart by a linear support vector machine whose L1 penalty leaves few pixels.

    python scripts/linear_svm.py                        # scikit-learn's digits, 5 against 8
    python scripts/linear_svm.py --data mnist           # MNIST from DATA_DIR

A search over C by cross-validation, the machine at the best C on all training images, and the one with the L2 penalty
at the same C beside it. The output folder gets ``results.json`` and ``linear_svm.png``: the scores of the search, and
the weight of each pixel.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from sklearn.svm import LinearSVC

from _common.command_line import run_command_line, warn
from _common.console import print_files, print_rows
from _common.digit_images import Source, pair, read_digits
from _common.runs import new_run, write_json
from _linear_svm.fits import best, fit_all

GRID = (0.025, 0.05, 0.1, 0.2, 0.4)


def run(
    data: Source = "digits",
    digits: tuple[int, int] = (5, 8),
    grid: tuple[float, ...] = GRID,
    folds: int = 5,
    data_dir: str | None = None,
    output: Path | None = None,
    seed: int = 0,
    jobs: int | None = None,
) -> dict[str, Any]:
    """Tell two digits apart by linear support vector machines, and see which pixels they look at.

    Args:
        data: digits (scikit-learn's, no download) or mnist.
        digits: The two digits.
        grid: The values of C that are tried.
        folds: Of the cross-validation.
        data_dir: Folder that MNIST lies in; by default the environment's DATA_DIR, else data.
        output: Folder for what is written; by default a new one under runs/.
        seed: Of the fits.
        jobs: Processes; by default one for each core, or one alone for small data.

    Returns:
        What results.json holds.
    """
    if not grid or min(grid) <= 0:
        raise ValueError(f"--grid must hold values of C greater than 0, found {list(grid)}")
    if jobs is not None and jobs < 1:
        raise ValueError(f"--jobs must be at least 1, found {jobs}")
    first, second = sorted(digits)
    train = pair(read_digits(data, "train", data_dir), first, second)
    test = pair(read_digits(data, "test", data_dir), first, second)
    x, x_test = flat(train.images), flat(test.images)
    began = time.perf_counter()
    scores, machines = fit_all(x, train.labels, grid, folds, seed, jobs)
    seconds = time.perf_counter() - began
    models = {name: describe(model, x, train.labels, x_test, test.labels) for name, model in machines.items()}
    for name, model in machines.items():
        if model.n_iter_ >= model.max_iter:
            warn(f"the {name} machine did not converge in {model.max_iter} iterations")
    folder = output or new_run("runs")
    folder.mkdir(parents=True, exist_ok=True)
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
        "models": models,
        "pixels": x.shape[1],
        "pixels_never_lit": int((~x.any(0)).sum()),
        "seconds": seconds,
        "files": {"figure": "linear_svm.png", "results": "results.json"},
    }
    shape = train.images.shape[1:]
    weights = {name: model.coef_.reshape(shape) for name, model in machines.items()}
    figure(scores, weights, results).savefig(folder / "linear_svm.png", dpi=100)
    write_json(folder / "results.json", results)
    report(results, folder)
    return results


def flat(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Images as rows of values from 0 to 1."""
    return images.reshape(len(images), -1) / 255.0


def describe(
    model: LinearSVC,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.int64],
    x_test: npt.NDArray[np.float64],
    y_test: npt.NDArray[np.int64],
) -> dict[str, Any]:
    """What a fitted machine reaches, and how many of its weights are exactly 0."""
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


def figure(
    scores: dict[float, dict[str, float]], weights: dict[str, npt.NDArray[np.float64]], results: dict[str, Any]
) -> Figure:
    """The scores over C beside a map of each machine's weights."""
    drawing = Figure(figsize=(12, 3.7), layout="constrained")
    axes, *maps = drawing.subplots(1, 1 + len(weights), width_ratios=[1.15, *[1] * len(weights)])
    grid = sorted(scores)
    for part, colour in (("train", "#777777"), ("test", "#4878a8")):
        means, spreads = (np.array([100 * scores[c][f"{kind}_{part}_score"] for c in grid]) for kind in ("mean", "std"))
        axes.plot(grid, means, "o-", markersize=4, color=colour, label=f"{part} part of the folds")
        axes.fill_between(grid, means - spreads, means + spreads, color=colour, alpha=0.18, linewidth=0)
    axes.axvline(results["best_C"], color="#c1272d", linewidth=1, linestyle="--", label=f"best, {results['best_C']:g}")
    axes.set(xscale="log", xlabel="C", ylabel="accuracy, %", title=f"L1: mean ± deviation of {results['folds']} folds")
    axes.set_xticks(grid, [f"{c:g}" for c in grid])
    axes.minorticks_off()
    axes.legend(fontsize=8)
    first, second = results["digits"]
    for place, (name, values) in zip(maps, weights.items(), strict=True):
        # A few weights are much larger than all others, which would be pale beside them.
        limit = float(np.quantile(np.abs(values[values != 0]), 0.98)) if values.any() else 1.0
        # Exact zeros in grey, which no weight has.
        place.set_facecolor("#d9d9d9")
        shown = np.ma.masked_equal(values, 0)
        drawn = place.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        drawing.colorbar(
            drawn, ax=place, shrink=0.9, extend="both", label=f"for {first}   ←   weight   →   for {second}"
        )
        row = results["models"][name]
        place.set_title(f"{name}: test {row['test_accuracy']:.2%}, {row['fraction_zero']:.0%} zeros (grey)")
        place.set_xticks([])
        place.set_yticks([])
    return drawing


def report(results: dict[str, Any], folder: Path) -> None:
    """Print both tables, and where the files are."""
    columns = {"train": "train_score", "test": "test_score"}
    rows = {
        f"{c}{' (best)' if float(c) == results['best_C'] else ''}": {
            f"{part}{', deviation' if kind == 'std' else ''}": row[f"{kind}_{column}"]
            for part, column in columns.items()
            for kind in ("mean", "std")
        }
        for c, row in results["scores"].items()
    }
    print_rows(f"{results['title']}; accuracy of the L1 machine, {results['folds']} folds", rows, "C")
    names = {"train_accuracy": "train", "test_accuracy": "test", "zeros": "zeros", "fraction_zero": "share of zeros"}
    names |= {"fraction_zero_of_lit_pixels": "share of zeros, pixels that are ever lit"}
    models = {name: {label: row[key] for key, label in names.items()} for name, row in results["models"].items()}
    print_rows(f"accuracy at C = {results['best_C']:g}, fitted to all training images", models, "penalty")
    print_files(folder, results["files"])


def main(args: list[str] | None = None) -> dict[str, Any]:
    """Run the command line ``args`` (the process's own by default)."""
    return run_command_line(run, args)


if __name__ == "__main__":
    main()
