"""The figure of `explain.py tabular`: each model's feature importances, and contributions for single rows."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from _explain.local_explanations import BIAS
from evaluation.fonts import draw_literally

MAX_FEATURES = 12
MAX_ROWS = 3
CELL = 0.46, 0.25
"""Width and height of a cell, in inches."""


def draw(title: str, results: dict[str, Any]) -> Figure:
    """Draw the results of `explain_table`: a panel of importances, and one for each of up to three rows."""
    models = results["models"]
    shares = {name: model["importance"]["shares"] for name, model in models.items()}
    mean = {name: np.mean([one.get(name, 0.0) for one in shares.values()]) for name in results["features"]}
    features = sorted(mean, key=lambda name: -mean[name])[:MAX_FEATURES]
    rows = results["rows"][:MAX_ROWS]
    columns = 2 if rows else 1
    lines = math.ceil((1 + len(rows)) / columns)
    width = columns * (0.085 * max(len(name) for name in features) + 0.9 + CELL[0] * len(models))
    height = lines * (1.7 + CELL[1] * len(features))
    figure = Figure(figsize=(max(width, 6), height), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=12, fontweight="bold")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    grid = np.array([[100 * one.get(name, 0.0) for one in shares.values()] for name in features])
    _heatmap(panels[0], grid, features, list(shares), digits=0, signed=False)
    panels[0].set_title("All rows: share of a model's importance, %", fontsize=9, loc="left")
    for axes, row in zip(panels[1:], rows, strict=False):
        _draw_row(axes, row, features, list(models), results["task"] == "regression")
    for axes in panels[1 + len(rows) :]:
        axes.set_axis_off()
    draw_literally(figure)
    return figure


def _draw_row(axes: Axes, row: dict[str, Any], features: list[str], models: list[str], is_regression: bool) -> None:
    """Draw contributions in the target's units, or for classes, where units differ, as signed shares in percent."""
    columns, labels = [], []
    for model in models:
        values = row["models"][model].get("contributions", dict.fromkeys(features, np.nan))
        labels.append(f"{model}: {row['models'][model]['prediction']}")
        total = sum(abs(value) for name, value in values.items() if name != BIAS)
        scale = 1.0 if is_regression else 100 / (total or 1.0)
        columns.append([scale * values.get(name, 0.0) for name in features])
    names = [f"{name} = {row['values'][name]:.4g}" for name in features]
    _heatmap(axes, np.array(columns).T, names, labels, digits=None if is_regression else 0, signed=True)
    unit = "contributions" if is_regression else "for (+) and against (−) the prediction, %"
    axes.set_title(f"Test row {row['row']}, true value {row['truth']}: {unit}", fontsize=9, loc="left")


def _heatmap(
    axes: Axes, grid: npt.NDArray[np.float64], rows: list[str], columns: list[str], digits: int | None, signed: bool
) -> None:
    """Draw a heat map with its numbers in the cells; columns of NaN are grey."""
    largest = float(np.nanmax(np.abs(grid), initial=0.0)) or 1.0
    limit = 0.6 * largest  # below the largest value, so that smaller ones have a visible colour too
    axes.set_facecolor("#e8e8e8")
    colours, lowest = ("RdBu_r", -limit) if signed else ("Blues", 0.0)
    axes.imshow(grid, cmap=colours, vmin=lowest, vmax=limit, aspect="auto")
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_xticks(range(len(columns)), columns, fontsize=8, rotation=35, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (line, column), value in np.ndenumerate(grid):
        unknown = "?" if line == len(grid) // 2 else ""
        text = unknown if np.isnan(value) else _short(value, largest, digits)
        colour = "white" if abs(value) > 0.62 * limit else "#333333"
        axes.text(column, line, text, ha="center", va="center", fontsize=7, color=colour)


def _short(value: float, largest: float, digits: int | None) -> str:
    """Format a number in about four characters; a dot stands for what rounds to 0."""
    unit = ""
    if largest >= 1e4:
        value, unit, digits = value / 1000, "k", 0
    elif digits is None:
        digits = 0 if largest >= 100 else 1 if largest >= 1 else 2
    text = f"{value:.{digits}f}"
    return "·" if float(text) == 0 else text.replace("-", "−") + unit
