"""Accuracy of LAMB on MNIST at a small batch and at one 41 times as large.

    DATA_DIR=... python benchmarks/lamb_batches.py

Each run is a training of scripts/train.py: an MLP, the same number of epochs at batch 100 and at batch 4,096, with a
linear warm-up to a peak learning rate and a linear decay. Prints a table and draws both curves.
"""

import contextlib
import io
import logging
import statistics
import sys
import tempfile
import warnings
from pathlib import Path

from jsonargparse import auto_cli
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

# In place of this folder, whose files have the packages' names.
sys.path[0] = str(Path(__file__).parent.parent / "scripts")

from lightning_modules.runs.loggers import read_column
from train import main as train  # the script, once its folder is on the path

RATES = {100: 0.01, 4096: 0.05}
"""Peak learning rates by batch size, chosen with TwoLayerNet and another seed: the best of 0.0025, 0.005 and 0.01, and
of 0.01, 0.02, 0.03, 0.05 and 0.1."""
EPOCHS, WARM_UP = 10, 0.2


def curve(batch: int, lr: float, seed: int) -> list[float]:
    """Train with LAMB; return the test accuracy after each epoch, in percent."""
    steps = EPOCHS * -(-60000 // batch)
    words = f"""fit --data MNISTDataModule --data.val_size 0 --data.batch_size {batch} --data.watch_test true
        --model.backbone MLP --model.lr_interval step --optimizer LAMB --seed_everything {seed}
        --lr_scheduler OneCycleLR --lr_scheduler.max_lr {lr} --lr_scheduler.total_steps {steps + 1}
        --lr_scheduler.pct_start {WARM_UP} --lr_scheduler.anneal_strategy linear --lr_scheduler.cycle_momentum false
        --trainer.accelerator cpu --trainer.max_epochs {EPOCHS} --trainer.enable_progress_bar false
        --trainer.enable_checkpointing false""".split()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        done = train([*words, "--trainer.default_root_dir", folder])
        return [100 * value for _, value in read_column(done.run.folder / "metrics.csv", "test/accuracy")]


def main(seeds: int = 3, plot: Path = Path("docs/lamb_batches.png")) -> None:
    """Train at both batch sizes, print the table and draw the curves.

    Args:
        seeds: Number of runs per batch size.
        plot: Path of the picture.
    """
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")  # this process should print nothing but the table
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    table = Table("batch", "peak rate", "test accuracy, %", title=f"LAMB, {EPOCHS} epochs, {seeds} seeds")
    for batch, lr in RATES.items():
        curves = [curve(batch, lr, seed) for seed in range(seeds)]
        final = [values[-1] for values in curves]
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


if __name__ == "__main__":
    auto_cli(main)
