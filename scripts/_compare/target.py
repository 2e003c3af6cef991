"""Time to a target: the steps, epochs, seconds and evaluations of the loss until a metric first reaches a value."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from _common.console import print_rows
from lightning_modules.metrics import direction

COSTS = ("steps", "epochs", "seconds", "evaluations")
"""The cost of a run when it reaches a target; `evaluations` counts batches, those of SAM's second pass too."""
RESAMPLES = 2000


class Target(NamedTuple):
    """A value of a metric, and which direction of it is better."""

    metric: str
    value: float
    mode: str  # max, min

    def is_reached(self, value: float) -> bool:
        """Return whether a value is as good as the target."""
        return value >= self.value if self.mode == "max" else value <= self.value


def parse(text: str) -> list[Target]:
    """Return the targets that a text names: a metric, and one value or several.

    Raises:
        ValueError: If the text is no metric and numbers, or the metric's direction is not known.

    >>> parse("val/accuracy 0.95 0.97")[1]
    Target(metric='val/accuracy', value=0.97, mode='max')
    """
    metric, *words = text.split() or [""]
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(
            f'--target must be a metric and a number, or several, such as "val/accuracy 0.95 0.97", found {text!r}'
        )
    mode = direction(metric)
    if mode is None or metric.partition("/")[0] not in ("train", "val", "test"):
        raise ValueError(
            f"--target {metric}: it is not known whether more or less of it is better: give a metric of train/, val/ "
            "or test/, such as val/accuracy or val/nll"
        )
    return [Target(metric, value, mode) for value in values]


def cost(run: Path | None, target: Target) -> dict[str, float]:
    """Return what a run has spent when it first reaches a target; infinity where it never does.

    Args:
        run: Folder of the run, with its metrics.csv; None for a run that has failed, which never reaches it.
        target: The target.
    """
    path = run / "metrics.csv" if run is not None else None
    if path is not None and path.is_file():
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                if row.get(target.metric) and target.is_reached(float(row[target.metric])):
                    return _spent(row)
    return dict.fromkeys(COSTS, math.inf)


def _spent(row: Mapping[str, str]) -> dict[str, float]:
    """Return the costs at a row: Lightning counts steps and epochs from 0; a value that was not written is NaN."""
    spent = {name: float(row.get(name) or "nan") for name in ("seconds", "evaluations")}
    return {"steps": float(row["step"]) + 1, "epochs": float(row.get("epoch") or "nan") + 1, **spent}


def median(values: Sequence[float]) -> dict[str, float]:
    """Return the median of values, of which some may be infinite, and its 95% bootstrap interval.

    Without interpolation, which infinity does not allow: the higher of two middle values, and percentiles of the
    medians of 2,000 resamples, which a fixed seed draws.

    >>> median([3.0, 1.0, math.inf])
    {'median': 3.0, 'low': 1.0, 'high': inf}
    """
    drawn = np.random.default_rng(0).choice(np.asarray(values, dtype=float), (RESAMPLES, len(values)))
    medians = np.quantile(drawn, 0.5, axis=1, method="higher")
    low, high = (float(np.quantile(medians, share, method="nearest")) for share in (0.025, 0.975))
    return {"median": float(np.quantile(values, 0.5, method="higher")), "low": low, "high": high}


def summarize(runs: Mapping[str, Sequence[Path | None]], target: Target) -> dict[str, Any]:
    """Return the target and, for each combination, how many of its runs reach it and the median of each cost.

    Args:
        runs: The folders of each combination's runs, None for those that have failed.
        target: The target.
    """
    table = {}
    for name, folders in runs.items():
        costs = [cost(folder, target) for folder in folders]
        reached = sum(math.isfinite(one["steps"]) for one in costs)
        table[name] = {"runs": len(costs), "reached": reached} | {
            key: median([one[key] for one in costs]) for key in COSTS
        }
    return {**target._asdict(), "table": table}


def target_rows(made: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the rows of the table of a target, from what `summarize` returned: medians and intervals."""
    return [
        {"combination": name, "reached": f"{row['reached']} of {row['runs']}"}
        | {key: _shown(row[key], 1 if key == "seconds" else 0) for key in COSTS}
        for name, row in made["table"].items()
    ]


def _shown(cell: Mapping[str, float], digits: int) -> str:
    median, low, high = (
        "∞" if math.isinf(cell[key]) else f"{cell[key]:,.{digits}f}" for key in ("median", "low", "high")
    )
    return median if low == high else f"{median} ({low} to {high})"


def heading(made: Mapping[str, Any]) -> str:
    """Return the title of the table."""
    sign = "at least" if made["mode"] == "max" else "at most"
    return (
        f"Time to {made['metric']} {sign} {made['value']:g} (medians, 95% bootstrap intervals; ∞: not reached; seconds "
        "of training)"
    )


def add_targets(targets: Sequence[Target], folder: Path, results: dict[str, Any], times: dict[str, Any]) -> None:
    """Add each target's table to times.json's contents and, without seconds, to those of results.json."""
    runs: dict[str, list[Path | None]] = {}
    for run in times["runs"]:
        runs.setdefault(run["name"], []).append(folder / run["folder"] if run["folder"] else None)
    times["targets"] = [summarize(runs, target) for target in targets]
    results["targets"] = [
        {
            **made,
            "table": {name: {key: row[key] for key in row if key != "seconds"} for name, row in made["table"].items()},
        }
        for made in times["targets"]
    ]


def print_targets(times: Mapping[str, Any]) -> None:
    """Print a table for each target."""
    for made in times["targets"]:
        rows = {row.pop("combination"): row for row in target_rows(made)}
        print_rows(heading(made), rows, "combination")
