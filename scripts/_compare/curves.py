"""Learning curves of a comparison: reading them from its runs, averaging over seeds, drawing."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from evaluation.fonts import draw_literally
from lightning_modules.runs.loggers import read_column

AXES = {"steps": "optimizer steps", "seconds": "seconds since the start"}


class Curve(NamedTuple):
    """A metric of one combination, at the steps that all its seeds have."""

    steps: list[int]  # optimizer steps
    seconds: list[float]  # mean training time; empty if a run has not recorded it
    mean: list[float]  # over the seeds
    sd: list[float]  # standard deviation over the seeds; empty for a single seed


def read_curve(runs: Sequence[Path], column: str) -> Curve | None:
    """Average a column of metrics.csv over the runs of a combination; None if they have no step in common."""
    try:
        values = [dict(read_column(run / "metrics.csv", column)) for run in runs]
    except (ValueError, OSError):  # a run has no such column
        return None
    common = sorted(set.intersection(*(set(one) for one in values))) if values else []
    if not common:
        return None
    table = np.array([[one[step] for step in common] for one in values])
    times = [elapsed(run / "tensorboard") for run in runs]
    timed = all(step in one for one in times for step in common)
    return Curve(
        steps=[step + 1 for step in common],  # Lightning counts from 0
        seconds=[float(np.mean([one[step] for one in times])) for step in common] if timed else [],
        mean=table.mean(0).tolist(),
        sd=table.std(0, ddof=1).tolist() if len(runs) > 1 else [],
    )


def elapsed(folder: Path) -> dict[int, float]:
    """Return the training time of each logged step in seconds, without the pauses between a kill and a resume.

    The folder has a run's event files, one for each time that the run was started.
    """
    seconds: dict[int, float] = {}
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: int(path.name.split(".")[3])):
        start, before = None, max(seconds.values(), default=0.0)
        for raw in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(raw)
            start = event.wall_time if start is None else start
            if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                seconds = {step: time for step, time in seconds.items() if step < event.step}
                before = max(seconds.values(), default=0.0)
            # Final results are no points of a curve.
            tags = [value.tag for value in event.summary.value]
            if tags and not tags[0].startswith(("results/", "final/", "_hparams_")):
                seconds[event.step] = before + event.wall_time - start
    return seconds


def collect(runs: Mapping[str, Sequence[Path]], metric: str) -> dict[str, dict[str, dict[str, Curve]]]:
    """Read the curves of the compared metric, accuracy and loss, as quantity -> split -> combination -> curve."""
    curves: dict[str, dict[str, dict[str, Curve]]] = {}
    compared = metric.partition("/")[2] or metric
    for quantity in dict.fromkeys(("loss" if compared == "nll" else compared, "accuracy", "loss")):
        for split in ("train", "val", "test"):
            column = f"{split}/{quantity if quantity != 'loss' or split == 'train' else 'nll'}"
            for name, folders in runs.items():
                curve = read_curve(folders, column)
                if curve is not None:
                    curves.setdefault(quantity, {}).setdefault(split, {})[name] = curve
    return curves


def draw(curves: Mapping[str, Mapping[str, Curve]], quantity: str, colours: Mapping[str, str]) -> Figure:
    """Draw curves with a band of one standard deviation: a column for each split, a row for steps and for seconds."""
    timed = any(curve.seconds for by_name in curves.values() for curve in by_name.values())
    rows = ("steps", "seconds") if timed else ("steps",)
    figure = Figure(figsize=(4 * len(curves), 3.2 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(curves), squeeze=False, sharey="col")
    for column, (split, by_name) in zip(panels.T, curves.items(), strict=True):
        logarithmic = positive_over_decades([value for curve in by_name.values() for value in curve.mean])
        for axes, row in zip(column, rows, strict=True):
            for name, curve in by_name.items():
                if not (x := getattr(curve, row)):
                    continue
                axes.plot(x, curve.mean, color=colours[name], label=name, marker="." if len(x) < 30 else None)
                if curve.sd:
                    low, high = np.subtract(curve.mean, curve.sd), np.add(curve.mean, curve.sd)
                    axes.fill_between(x, low, high, color=colours[name], alpha=0.18, linewidth=0)
            axes.set(title=split, xlabel=AXES[row], ylabel=quantity, yscale="log" if logarithmic else "linear")
            axes.set_xlim(left=0)
            axes.grid(alpha=0.3)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False)
    draw_literally(figure)
    return figure


def positive_over_decades(values: Sequence[float]) -> bool:
    """Return whether values suit a logarithmic axis: they are positive and span more than two decades."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > 100 * min(finite)
