"""Every scaler on the logits of a trained checkpoint: `calibrate.py --checkpoint`."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from matplotlib.figure import Figure
from matplotlib.image import imsave
from torch import Tensor

import evaluation
from _common.names import backbones
from _common.rebuild import AtPrecision, TrainedRun, rebuild, with_classifier
from evaluation import CalibrationResult, Scaler
from evaluation.figures import to_rgb
from lightning_modules.runs.checkpoint_io import AtomicCheckpointIO, read_checkpoint

SCALERS = (
    evaluation.TemperatureScaling,
    evaluation.VectorScaling,
    evaluation.PlattScaling,
    evaluation.IsotonicCalibration,
    evaluation.HistogramBinning,
    evaluation.DirichletCalibration,
)


def calibrate_checkpoint(
    checkpoint: Path, folder: Path, keep: str, accelerator: str, trust: str, on_training_data: bool, **options: Any
) -> dict[str, Any]:
    """Fit every scaler, write the figures and the calibrated checkpoint, and return the results."""
    run = rebuild(checkpoint, accelerator, trust)
    network, scalers = AtPrecision(run.model, run.trainer), [scaler() for scaler in SCALERS]
    report = evaluation.calibrate(network, run.datamodule, scalers, on_training_data=on_training_data, **options)
    n_bins, norm = options["n_bins"], options["norm"]
    results = {"uncalibrated": report.uncalibrated}
    results |= {scaler.__name__: result for scaler, result in zip(SCALERS, report.calibrated, strict=True)}
    measured = {name: result for name, result in results.items() if result.metrics}
    fitted = {name: result.scaler for name, result in measured.items() if result.scaler is not None}
    folder.mkdir(parents=True, exist_ok=True)
    diagrams = [result.reliability_diagram(n_bins, norm, title=name) for name, result in measured.items()]
    imsave(folder / "reliability.png", side_by_side(diagrams))
    files = {"figure": "reliability.png", "results": "results.json"}
    if keep in fitted:
        write_calibrated(run, checkpoint, keep, fitted[keep], folder)
        files["checkpoint"] = "checkpoints/calibrated.ckpt"
    fit = f"fitted to {report.samples:,} samples ({report.fitted_on})"
    return {
        "title": f"{checkpoint}: {fit}, test split of {report.test_samples:,}",
        "checkpoint": str(checkpoint),
        "fitted_on": report.fitted_on,
        "kept": keep if keep in fitted else None,
        "n_bins": n_bins,
        "norm": norm,
        "methods": {name: row(result) for name, result in results.items()},
        "fitted": {
            name: {parameter: getattr(scaler, parameter).tolist() for parameter in scaler.fitted}
            for name, scaler in fitted.items()
        },
        "files": files,
    }


def row(result: CalibrationResult) -> dict[str, Any]:
    """Return the row of a table for one result."""
    if not result.metrics:
        return {"error": f"not fitted: {result.remarks[0]}"}
    parameters = "" if result.scaler is None else summary(result.scaler)
    interval = list(result.ece_interval or ())
    return result.metrics | {"ece_interval": interval, "parameters": "; ".join([parameters, *result.remarks])}


def summary(scaler: Scaler) -> str:
    """Return a summary of a scaler's fitted parameters."""
    words = []
    for name in sorted(scaler.fitted, reverse=True):
        value: Tensor = getattr(scaler, name)
        extent = f"{float(value.min()):.3g} to {float(value.max()):.3g}" if value.ndim == 1 else ""
        extent = extent or " x ".join(map(str, value.shape)) or f"{float(value):.4f}"
        words.append(f"{name.rstrip('_')} {extent}")
    return ", ".join(words)


def side_by_side(diagrams: Sequence[Figure]) -> npt.NDArray[np.uint8]:
    """Return one picture `[H, W, 3]` of the diagrams, four in a row."""
    pictures = [to_rgb(diagram) for diagram in diagrams]
    pictures += [np.full_like(pictures[0], 255)] * (-len(pictures) % 4)
    return np.vstack([np.hstack(pictures[first : first + 4]) for first in range(0, len(pictures), 4)])


def write_calibrated(run: TrainedRun, checkpoint: Path, name: str, scaler: Scaler, folder: Path) -> None:
    """Write a run folder whose backbone is the network with the scaler behind it."""
    config = copy.deepcopy(run.config)
    config["model"]["backbone"] = behind(config["model"]["backbone"], name)
    saved = read_checkpoint(checkpoint)
    inner = "backbone."
    weights = {
        key.replace(inner, "backbone.network.", 1) if key.startswith(inner) else key: value
        for key, value in saved["state_dict"].items()
    }
    state = {f"backbone.scaler.{key}": value.cpu() for key, value in scaler.state_dict().items()}
    hparams = saved["hyper_parameters"] | {"backbone": behind(saved["hyper_parameters"]["backbone"], name)}
    kept = ("pytorch-lightning_version", "epoch", "global_step", "hparams_name")
    content = {key: saved[key] for key in kept if key in saved}
    AtomicCheckpointIO().save_checkpoint(
        content | {"state_dict": weights | state, "hyper_parameters": hparams},
        folder / "checkpoints" / "calibrated.ckpt",
    )
    config = with_classifier(config, type(run.model))
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def behind(backbone: str | dict[str, Any], scaler: str) -> dict[str, Any]:
    """Describe a backbone with a scaler behind it."""
    if isinstance(backbone, str):
        path = backbones().get(backbone, backbone)
        timm = {"class_path": "lightning_modules.backbones.timm_model", "init_args": {"name": backbone}}
        backbone = {"class_path": path} if "." in path else timm
    arguments = {"backbone": backbone, "scaler": {"class_path": f"evaluation.{scaler}"}}
    return {"class_path": "evaluation.CalibratedNetwork", "init_args": arguments}
