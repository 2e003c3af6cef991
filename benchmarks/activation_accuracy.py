"""SPOCU and Hardshrink against ReLU in training: a table of test accuracies and a figure of learning curves.

Example: `python benchmarks/activation_accuracy.py --cifar10 FOLDER` with the images in
`FOLDER/train/<class>/` and `FOLDER/test/<class>/`.

Every run is one call of `scripts/train.py` with a recipe of `scripts/recipes/`; only the activation and the seed
differ. A run that already has its `results.json` is not repeated, so an interrupted comparison continues.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import jsonargparse
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

ROOT = Path(__file__).resolve().parent.parent
# In place of this file's own folder, whose activations.py would hide the package.
sys.path[:1] = [str(ROOT), str(ROOT / "scripts")]

import train
from lightning_modules.callbacks.training_monitor import NonFiniteLossError
from lightning_modules.runs.loggers import read_column

RECIPES = {
    "MNIST, TwoLayerNet": "mnist_two_layer.yaml",
    "CIFAR-10, SmallConvNet": "imagefolder_small_conv_net.yaml",
    "breast cancer, MLP": "breast_cancer_mlp.yaml",
}
ACTIVATIONS = {
    "ReLU": ["ReLU"],
    "SPOCU()": ["SPOCU"],
    "SPOCU(c=1)": ["SPOCU", "--model.activation.c", "1.0"],
    "Hardshrink()": ["Hardshrink"],
}
LOSS, ACCURACY = "test/nll", "test/accuracy"


def finished(folder: Path) -> Path | None:
    """Return the run below `folder` that was trained and tested, if there is one."""
    return next((path.parent for path in sorted(folder.glob("*/results.json"))), None)


def run(recipe: str, activation: Sequence[str], seed: int, folder: Path, options: Sequence[str]) -> Path | None:
    """Train once and return the run's folder, or None if the loss became infinite or NaN."""
    done = finished(folder)
    if done is not None:
        return done
    arguments = ["fit", "--config", str(ROOT / "scripts" / "recipes" / recipe), "--model.activation", *activation]
    arguments += ["--seed_everything", str(seed), "--trainer.default_root_dir", str(folder)]
    try:
        train.main([*arguments, "--trainer.enable_progress_bar", "false", *options])
    except SystemExit as stopped:
        if isinstance(stopped.__cause__, NonFiniteLossError):
            return None
        raise
    return finished(folder)


def row(task: str, name: str, runs: Sequence[Path | None]) -> str:
    """Return one line of the table: means over the seeds, each seed's accuracy, and the number of diverged runs."""
    results = [json.loads((path / "results.json").read_text()) for path in runs if path is not None]
    diverged = f"{len(runs) - len(results)} of {len(runs)}"
    if not results:
        return f"| {task} | {name} | | | | {diverged} |"
    accuracies = [100 * result[ACCURACY] for result in results]
    loss = statistics.fmean(result[LOSS] for result in results)
    each = ", ".join(f"{accuracy:.2f}" for accuracy in accuracies)
    return f"| {task} | {name} | {statistics.fmean(accuracies):.2f} | {each} | {loss:.4g} | {diverged} |"


def draw(axes: Axes, name: str, color: str, runs: Sequence[Path | None]) -> None:
    """Plot the test accuracy after each epoch, one line per seed."""
    for path in runs:
        if path is None:
            continue
        curve = read_column(path / "metrics.csv", ACCURACY)
        axes.plot([step + 1 for step, _ in curve], [100 * y for _, y in curve], color=color, lw=1, alpha=0.8)
    axes.plot([], [], color=color, label=name)


def compare(
    cifar10: str | None = None, seeds: int = 3, folder: str = "runs/activations", figure: str = "docs/activations.png"
) -> None:
    """Train every combination of task, activation and seed; print the table and write the figure.

    Args:
        cifar10: Folder of CIFAR-10's images, train/<class>/* and test/<class>/*; None skips that task.
        seeds: Number of runs of each combination, with the seeds 0, 1, ...
        folder: Folder of the runs.
        figure: Path of the figure.
    """
    tasks = {task: recipe for task, recipe in RECIPES.items() if cifar10 is not None or not task.startswith("CIFAR")}
    figures, panels = plt.subplots(1, len(tasks), figsize=(5.5 * len(tasks), 3.8), layout="constrained", squeeze=False)
    lines = [
        f"| task | activation | test accuracy, %, mean of {seeds} | each seed | test loss, mean | diverged |",
        "| --- | --- | ---: | --- | ---: | ---: |",
    ]
    for (task, recipe), axes in zip(tasks.items(), panels[0], strict=True):
        options = ["--data.data_dir", cifar10] if cifar10 is not None and task.startswith("CIFAR") else []
        for color, (name, activation) in enumerate(ACTIVATIONS.items()):
            place = Path(folder) / Path(recipe).stem / name
            runs = [run(recipe, activation, seed, place / str(seed), options) for seed in range(seeds)]
            lines.append(row(task, name, runs))
            draw(axes, name, f"C{color}", runs)
        axes.set(title=task, xlabel="step", ylabel="test accuracy, %")
        axes.legend()
        axes.grid(alpha=0.3)
        figures.savefig(figure, dpi=110)
        print("\n".join(lines), flush=True)


def main(args: list[str] | None = None) -> None:
    """Read the command line and compare."""
    jsonargparse.auto_cli(compare, args=args, as_positional=False)


if __name__ == "__main__":
    main()
