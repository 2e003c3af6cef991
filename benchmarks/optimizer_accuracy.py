"""What the optimizers reach on MNIST, and what LAMB keeps of it at a batch 41 times as large.

    DATA_DIR=... python benchmarks/optimizer_accuracy.py

Every run is one of scripts/train.py. The first part trains TwoLayerNet for 3 epochs of 600 batches, and resnet20 for 2
short epochs of 100 batches, at batch 100 and a constant rate, with several seeds. The second part trains an MLP by LAMB
for the same number of epochs at batch 100 and at batch 4,096, each with its own peak rate under a linear warm-up and a
linear decay, and draws both curves.
"""

import contextlib
import io
import json
import logging
import statistics
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from jsonargparse import auto_cli
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

# Instead of this folder, whose files have the packages' names.
sys.path[0] = str(Path(__file__).parent.parent / "scripts")

from train import main as train  # the script, once its folder is on the path

from lightning_modules.loggers import read_column

MOMENTUM = "--optimizer SGD --optimizer.lr 0.05 --optimizer.momentum 0.9"
OPTIMIZERS = {
    "SGD, momentum 0.9, lr 0.05": MOMENTUM,
    "Adam, lr 0.001": "--optimizer Adam --optimizer.lr 1e-3",
    "LAMB, lr 0.01": "--optimizer LAMB --optimizer.lr 1e-2",
    "COCOB": "--optimizer COCOB",
    "SAM around the same SGD, rho 0.05": "--optimizer SAM "
    + MOMENTUM.replace("--optimizer", "--optimizer.base_optimizer"),
}
EPOCHS = {"TwoLayerNet": 3, "resnet20": 2}
BATCHES = {"TwoLayerNet": 600, "resnet20": 100}
LARGE = {100: 0.01, 4096: 0.05}
"""LAMB's peak rates by batch size: for TwoLayerNet and another seed, the best of 0.0025, 0.005, 0.01 and of 0.01, 0.02,
0.03, 0.05, 0.1."""
LARGE_EPOCHS, WARM_UP = 10, 0.2


def run(arguments: str, seed: int) -> tuple[dict[str, float], list[float]]:
    """Train by a command line; return its results and the test accuracy after each epoch."""
    common = "--data MNISTDataModule --data.val_size 0 --trainer.accelerator cpu"
    quiet = "--trainer.enable_progress_bar false --trainer.enable_checkpointing false"
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        words = f"fit {common} {quiet} --seed_everything {seed} {arguments}".split()
        done = train([*words, "--trainer.default_root_dir", folder])
        results = json.loads((done.run_folder / "results.json").read_text())
        curve = read_column(done.run_folder / "metrics.csv", "test/accuracy") if "watch_test" in arguments else []
        return results, [value for _, value in curve]


def accuracies(seeds: int, networks: list[str]) -> None:
    """Print the first part."""
    for network in networks:
        batches, epochs = BATCHES[network], EPOCHS[network]
        length = f"--trainer.max_epochs {epochs} --trainer.limit_train_batches {batches}"
        fixed = f"--model.backbone {network} --data.batch_size 100 {length} "
        results: dict[str, list[dict[str, float]]] = {name: [] for name in OPTIMIZERS}
        for seed in range(seeds):
            for name, optimizer in OPTIMIZERS.items():
                results[name].append(run(fixed + optimizer, seed)[0])
        table = Table("optimizer", "test accuracy, %", "seconds an epoch", "times SGD's")
        table.title = (
            f"{network}, {epochs} epochs of {batches} batches, {seeds} seeds, {torch.get_num_threads()} threads"
        )
        seconds = {
            name: [100 * batches / r["train/examples_per_second"] for r in all_] for name, all_ in results.items()
        }
        base = next(iter(seconds.values()))
        for name, all_ in results.items():
            reached = [100 * r["test/accuracy"] for r in all_]
            ratio = statistics.median(a / b for a, b in zip(seconds[name], base, strict=True))
            spread = statistics.stdev(reached) if seeds > 1 else float("nan")
            table.add_row(
                name,
                f"{statistics.mean(reached):.2f} ± {spread:.2f}",
                f"{statistics.median(seconds[name]):.1f}",
                f"{ratio:.2f}",
            )
        Console(width=120).print(table)


def lamb(batch: int, lr: float, seed: int) -> list[float]:
    """Train by LAMB; return the test accuracy after each epoch."""
    steps = LARGE_EPOCHS * -(-60000 // batch)
    schedule = f"--lr_scheduler OneCycleLR --lr_scheduler.max_lr {lr} --lr_scheduler.total_steps {steps + 1}"
    linear = f"--lr_scheduler.pct_start {WARM_UP} --lr_scheduler.anneal_strategy linear"
    fixed = "--lr_scheduler.cycle_momentum false --model.lr_interval step --optimizer LAMB --model.backbone MLP"
    fixed += " --data.watch_test true"
    return run(f"--data.batch_size {batch} --trainer.max_epochs {LARGE_EPOCHS} {schedule} {linear} {fixed}", seed)[1]


def large_batch(seeds: int, plot: Path) -> None:
    """Print and draw the second part."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    table = Table("batch", "peak rate", "test accuracy, %", title=f"LAMB, {LARGE_EPOCHS} epochs, {seeds} seeds")
    for batch, lr in LARGE.items():
        curves = [[100 * value for value in lamb(batch, lr, seed)] for seed in range(seeds)]
        final = [curve[-1] for curve in curves]
        spread = statistics.stdev(final) if seeds > 1 else float("nan")
        table.add_row(str(batch), str(lr), f"{statistics.mean(final):.2f} ± {spread:.2f}")
        columns = list(zip(*curves, strict=True))
        epochs = range(1, len(columns) + 1)
        (line,) = axes.plot(epochs, [statistics.mean(c) for c in columns], label=f"batch {batch}")
        axes.fill_between(epochs, list(map(min, columns)), list(map(max, columns)), color=line.get_color(), alpha=0.2)
    axes.set(xlabel="epoch", ylabel="test accuracy, %", title="LAMB, MLP on MNIST")
    axes.legend()
    figure.savefig(plot, dpi=120)
    Console(width=120).print(table)


def main(
    seeds: int = 3,
    networks: list[str] = ["TwoLayerNet", "resnet20"],  # noqa: B006
    large: bool = True,
    plot: Path = Path("docs/lamb_batches.png"),
) -> None:
    """Run both parts.

    Args:
        seeds: How many runs each mean is over.
        networks: Of the first part: TwoLayerNet, resnet20.
        large: Whether to run the second part.
        plot: Where to draw its curves.
    """
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")  # a benchmark's own process: nothing but the tables
    accuracies(seeds, networks)
    if large:
        large_batch(seeds, plot)


if __name__ == "__main__":
    auto_cli(main)
