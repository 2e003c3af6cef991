"""The questions of this project on CIFAR-10: optimizers and activations on resnet20, by scripts/compare.py."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from ..data import image_count, images_module
from ..processes import kill_tree
from ..rows import Bench, Row

COMPARE = Path(__file__).resolve().parents[3] / "scripts" / "compare.py"
RATES = {"SGD": 0.4, "Adam": 0.004, "LAMB": 0.02, "Muon": 0.05}
"""Peak rates at batch 512: usual ones, not tuned here. COCOB has none."""
SGD = f"SGD(lr={RATES['SGD']}, momentum=0.9, nesterov=true, weight_decay=0.0005)"
SAM_SGD = (
    "{class_path: SAM, init_args: {base_optimizer: {class_path: SGD, init_args: "
    f"{{lr: {RATES['SGD']}, momentum: 0.9, nesterov: true, weight_decay: 0.0005}}}}}}}}"
)
OPTIMIZERS = (
    SGD,
    f"Adam(lr={RATES['Adam']})",
    f"LAMB(lr={RATES['LAMB']})",
    SAM_SGD,
    f"Muon(lr={RATES['Muon']})",
)
COCOB = ("COCOB",)
"""It has no learning rate that a schedule could lower."""
ACTIVATIONS = ("ReLU", "SPOCU(c=1)", "Hardshrink", "GELU")
EPOCHS, SEEDS, JOBS, BATCH = 10, 3, 6, 512


def words(bench: Bench, axis: str, values: tuple[str, ...], folder: Path) -> list[str]:
    """Return the command of a comparison."""
    module: Any = images_module(bench, 1)
    source = ["--data", f"{type(module).__module__}.{type(module).__name__}"]
    if bench.data is None:
        source += ["--data.count", str(image_count(bench))]
    else:
        source += ["--data.data_dir", module.data_dir, "--data.cache_dir", str(module.hparams["cache_dir"])]
        source += ["--data.val_size", "0"]
    options = {"lr": str(RATES["SGD"]), "momentum": "0.9", "nesterov": "true", "weight_decay": "0.0005"}
    optimizer = ["--optimizer", "SGD", *(word for key in options for word in (f"--optimizer.{key}", options[key]))]
    common = ["--data.crop_padding", "4", "--data.flip", "random", "--data.drop_last", "true"]
    common += ["--data.batch_size", str(16 if bench.quick else BATCH), "--model.backbone", "resnet20"]
    common += ["--trainer.max_epochs", str(1 if bench.quick else EPOCHS), "--trainer.enable_progress_bar", "false"]
    common += ["--trainer.accelerator", "gpu" if bench.cuda else "cpu"]
    common += ["--trainer.precision", "bf16-mixed" if bench.cuda else "32-true"]
    common += ["--lr_scheduler", "lightning_modules.linear_decay.LinearDecay"] if values != COCOB else []
    seeds, jobs = (1, 1) if bench.quick else (SEEDS, JOBS)
    fixed = optimizer if axis != "optimizer" else []
    own = ["--seeds", str(seeds), "--jobs", str(jobs), "--output", str(folder)]
    return [sys.executable, str(COMPARE), "--axis", axis, "--values", *values, *source, *common, *own, *fixed]


def compare(bench: Bench, case: str, axis: str, values: tuple[str, ...], seconds: float) -> Row:
    """Run a comparison, and append a row for each of its settings, also of one that did not end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary) / "comparison"
        began = time.monotonic()
        path = os.pathsep.join([*sys.path, str(Path(__file__).resolve().parents[2])])  # the last for the random images
        process = subprocess.Popen(
            words(bench, axis, values, folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, env=os.environ | {"PYTHONPATH": path},
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            kill_tree(process.pid)
            output, _ = process.communicate()
        for name, row in outcomes(folder).items():
            bench.row(case, name, **row)
        if process.returncode:
            raise RuntimeError(f"compare.py ended with {process.returncode}: {output.strip()[-200:]}")
        return {"seconds": round(time.monotonic() - began, 1)}


def outcomes(folder: Path) -> dict[str, Row]:
    """Return mean and deviation of each setting's test accuracy in percent, from the runs that have ended."""
    scores: dict[str, list[float]] = {}
    rows: dict[str, Row] = {}
    for path in sorted(folder.glob("*/seed-*/outcome.json")):
        ended, name = json.loads(path.read_text()), path.parents[1].name
        if ended["status"] == "finished":
            scores.setdefault(name, []).append(100 * ended["metrics"]["test/accuracy"])
        else:
            rows[name] = {"error": ended["error"]}
    for name, values in scores.items():
        row = rows.setdefault(name, {})
        row |= {"accuracy": statistics.fmean(values), "runs": len(values)}
        row |= {"deviation": statistics.stdev(values)} if len(values) > 1 else {}
    return rows


def run(bench: Bench) -> None:
    """Run the comparisons."""
    length = f"resnet20, batch {BATCH}, {EPOCHS} epochs"
    for case, axis, values, share in (
        (f"{length}, ReLU, linear decay", "optimizer", OPTIMIZERS, 0.5),
        (f"{length}, ReLU, no schedule", "optimizer", COCOB, 0.25),
        (f"{length}, {SGD}, linear decay", "model.activation", ACTIVATIONS, 1.0),
    ):
        seconds = max(bench.left() * share - 2, 1)
        chosen = values[:1] if bench.quick else values
        bench.measure(case, "all runs", partial(compare, bench, case, axis, chosen, seconds), needs=20)
