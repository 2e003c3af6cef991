"""Calibrate a trained classifier with every scaler, or support vector machines on generated data.

    python scripts/calibrate.py --checkpoint runs/.../checkpoints/best.ckpt
    python scripts/calibrate.py                                # support vector machines on generated data

With a checkpoint, its data and split are rebuilt from the run's config.yaml, each scaler is fitted to the validation
split, and the table shows the test split. The output folder (the run's `calibration/`) gets `results.json`,
`reliability.png`, and a `config.yaml` with `checkpoints/calibrated.ckpt`: the network followed by the scaler of
`--keep`, for `train.py test --ckpt_path` and `train.py predict --ckpt_path`.
"""

from pathlib import Path
from typing import Any, Literal

from _common.cli import at_least, experiment
from _common.console import cell, print_rows
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
    trust: str = "",
) -> dict[str, Any]:
    """Calibrate a checkpoint, or support vector machines if none is given; return the contents of results.json.

    Args:
        checkpoint: Checkpoint of a run of train.py.
        output: Output folder; by default the run's calibration/, or a new one under runs/.
        keep: Scaler of the calibrated checkpoint.
        n_bins: Number of bins of the calibration error; train.py uses 15.
        norm: Norm of the calibration error: l1 (ECE, as train.py logs it), l2 (RMSCE) or max (MCE).
        on_training_data: Whether to fit to the training split, which networks overfit, not to the validation split.
        accelerator: Device: auto, cpu, gpu or another of Lightning's accelerators.
        replicates: Number of bootstrap samples for the confidence intervals of the calibration error.
        trust: Packages, separated by commas, that the checkpoint and its run may name.
    """
    at_least(1, n_bins=n_bins)
    at_least(2, replicates=replicates)
    options: dict[str, Any] = {"n_bins": n_bins, "norm": norm, "replicates": replicates}
    if checkpoint is None:
        from _calibrate.svm import calibrate_svm

        out = Run.at(output)
        results = calibrate_svm(out.folder, **options)
    else:
        from _calibrate.checkpoint import calibrate_checkpoint

        out = Run(output or checkpoint.absolute().parent.parent / "calibration")
        results = calibrate_checkpoint(checkpoint, out.folder, keep, accelerator, trust, on_training_data, **options)
    error = {"l1": "ECE", "l2": "RMSCE", "max": "MCE"}[norm]
    columns = {"nll": "NLL", "ece": error, "interval": "95% interval", "brier": "Brier", "accuracy": "accuracy"}
    rows = {
        name: row | {"interval": " to ".join(map(cell, row.get("ece_interval", ())))}
        for name, row in results["methods"].items()
    }
    print_rows(results["title"], rows, "method", columns | {"error": "error", "parameters": "fitted parameters"})
    return out.finish(results)


main = experiment(run)

if __name__ == "__main__":
    main()
