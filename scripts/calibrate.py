"""Calibrate a trained classifier with every scaler, or support vector machines on generated data.

    python scripts/calibrate.py --checkpoint runs/.../checkpoints/best.ckpt
    python scripts/calibrate.py                                # support vector machines on generated data

With a checkpoint, its data and split are rebuilt from the run's config.yaml, each scaler is fitted to the validation
split, and the table shows the test split. The output folder (the run's `calibration/`) gets `results.json`,
`reliability.png`, and the network followed by the scaler of `--keep`, as `checkpoints/calibrated.ckpt` beside a
config.yaml, which `train.py test --ckpt_path` and `train.py predict --ckpt_path` read.
"""

import math
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from _common.cli import experiment
from _common.run import Run

Keep = Literal["TemperatureScaling", "VectorScaling", "PlattScaling", "DirichletCalibration"]


def run(
    checkpoint: Path | None = None,
    output: Path | None = None,
    keep: Keep = "TemperatureScaling",
    n_bins: int = 15,
    norm: Literal["l1", "l2", "max"] = "l1",
    on_training_data: bool = False,
    accelerator: str = "auto",
    replicates: int = 200,
) -> dict[str, Any]:
    """Calibrate a checkpoint, or support vector machines if none is given.

    Args:
        checkpoint: Checkpoint of a run of train.py.
        output: Output folder; by default the run's calibration/, or a new one under runs/.
        keep: Scaler of the calibrated checkpoint.
        n_bins: Number of bins of the calibration error; train.py logs 15.
        norm: Norm of the calibration error: l1 (ECE, what train.py logs), l2 or max.
        on_training_data: Fit to the training split instead of the validation split, which leaves the network
            overconfident.
        accelerator: Device, by Lightning's name: auto, cpu, gpu.
        replicates: Number of bootstrap samples for the confidence intervals of the calibration error.

    Returns:
        The contents of results.json.
    """
    if checkpoint is None:
        from _calibrate.svm import calibrate_svm

        out = Run.at(output)
        results = calibrate_svm(out.folder, n_bins, norm, replicates)
    else:
        from _calibrate.checkpoint import calibrate_checkpoint

        out = Run(output or checkpoint.absolute().parent.parent / "calibration")
        results = calibrate_checkpoint(
            checkpoint, out.folder, keep, n_bins, norm, on_training_data, accelerator, replicates
        )
    print_table(results)
    return out.finish(results)


def print_table(results: dict[str, Any]) -> None:
    """Print the results, a row a method."""
    table = Table(title=results["title"], title_justify="left")
    error = {"l1": "ECE", "l2": "RMSCE", "max": "MCE"}[results["norm"]]
    for column in ("method", "NLL", error, "95% interval", "Brier", "accuracy", "fitted parameters"):
        table.add_column(column, justify="left" if column in ("method", "fitted parameters") else "right")
    for name, row in results["methods"].items():
        if "error" in row:
            table.add_row(name, *[""] * 5, row["error"])
            continue
        low, high = row["ece_interval"]
        numbers = [number(row["nll"]), number(row["ece"]), f"{low:.4f} to {high:.4f}"]
        table.add_row(name, *numbers, number(row["brier"]), f"{row['accuracy']:.2%}", row["parameters"])
    Console(width=max(Console().width, 120)).print(table)


def number(value: float) -> str:
    """Return a number with four decimals."""
    return f"{value:.4f}" if math.isfinite(value) else str(value)


main = experiment(run)


if __name__ == "__main__":
    main()
