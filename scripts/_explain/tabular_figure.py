"""The figure of ``explain.py tabular``: which features each model looks at, in general and for single rows."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]
MOST_FEATURES = 12
MOST_ROWS = 3
CELL = 0.46, 0.25
"""Inches."""


def figure(title: str, results: dict[str, Any]) -> Figure:
    """Draw what ``explain_table`` found: one panel of importances, and one for each of three rows."""
    models = results["models"]
    shares = {name: model["importance"]["shares"] for name, model in models.items()}
    mean = {name: np.mean([one.get(name, 0.0) for one in shares.values()]) for name in results["features"]}
    features = sorted(mean, key=lambda name: -mean[name])[:MOST_FEATURES]
    rows = results["rows"][:MOST_ROWS]
    columns = 2 if rows else 1
    lines = math.ceil((1 + len(rows)) / columns)
    label = 0.085 * max(len(name) for name in features)
    width = columns * (label + 0.9 + CELL[0] * len(models))
    drawing = Figure(figsize=(max(width, 6), lines * (1.7 + CELL[1] * len(features))), dpi=100, layout="constrained")
    FigureCanvasAgg(drawing)
    drawing.suptitle(title, fontsize=12, fontweight="bold")
    panels = drawing.subplots(lines, columns, squeeze=False).ravel()
    _importances(panels[0], shares, features)
    for axes, row in zip(panels[1:], rows, strict=False):
        _contributions(axes, row, features, list(models), results["task"] == "regression")
    for axes in panels[1 + len(rows) :]:
        axes.set_axis_off()
    return drawing


def _importances(axes: Axes, shares: dict[str, dict[str, float]], features: list[str]) -> None:
    grid = np.array([[100 * one.get(name, 0.0) for one in shares.values()] for name in features])
    _heat(axes, grid, features, list(shares), "Blues", 0.0, digits=0)
    axes.set_title("All rows: share of a model's importance, %", fontsize=9, loc="left")


def _contributions(axes: Axes, row: dict[str, Any], features: list[str], models: list[str], is_value: bool) -> None:
    """Contributions in the target's units, or where models' units differ as signed shares in percent."""
    columns, labels = [], []
    for model in models:
        found = row["models"][model]
        values = found.get("contributions")
        labels.append(f"{model}: {found['prediction']}")
        if values is None:
            columns.append([np.nan] * len(features))
            continue
        others = [abs(value) for name, value in values.items() if name != "<BIAS>"]
        scale = 1.0 if is_value else 100 / (sum(others) or 1.0)
        columns.append([scale * values.get(name, 0.0) for name in features])
    names = [f"{name} = {row['values'][name]:.4g}" for name in features]
    _heat(axes, np.array(columns).T, names, labels, "RdBu_r", None, digits=None if is_value else 0)
    unit = "contributions" if is_value else "for (+) and against (−) the prediction, %"
    axes.set_title(f"Test row {row['row']}, truly {row['truth']}: {unit}", fontsize=9, loc="left")


def _heat(
    axes: Axes,
    grid: Array,
    rows: list[str],
    columns: list[str],
    colours: str,
    low: float | None,
    digits: int | None,
) -> None:
    """A heat map with its numbers in it; columns of NaN are grey."""
    most = float(np.nanmax(np.abs(grid), initial=0.0)) or 1.0
    bright = 0.6 * most  # so that what is not the largest has a colour too
    axes.set_facecolor("#e8e8e8")
    axes.imshow(grid, cmap=colours, vmin=-bright if low is None else low, vmax=bright, aspect="auto")
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_xticks(range(len(columns)), columns, fontsize=8, rotation=35, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (line, column), value in np.ndenumerate(grid):
        unknown = "?" if line == len(grid) // 2 else ""
        text = unknown if np.isnan(value) else _short(value, most, digits)
        colour = "white" if not np.isnan(value) and abs(value) > 0.62 * bright else "#333333"
        axes.text(column, line, text, ha="center", va="center", fontsize=7, color=colour)


def _short(value: float, most: float, digits: int | None) -> str:
    """A number in about four characters; what rounds to 0 is a dot."""
    unit = ""
    if most >= 1e4:
        value, unit, digits = value / 1000, "k", 0
    elif digits is None:
        digits = 0 if most >= 100 else 1 if most >= 1 else 2
    text = f"{value:.{digits}f}"
    return "·" if float(text) == 0 else text.replace("-", "−") + unit
