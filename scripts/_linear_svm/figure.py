"""The figure of `linear_svm.py`."""

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from _linear_svm.examples import Pair
from evaluation.fonts import draw_literally, legible

Weights = npt.NDArray[np.float64]
BARS = 30
"""Largest number of columns that are drawn."""
CHANNELS = {3: ("red", "green", "blue")}
FOR, AGAINST = "#b2182b", "#2166ac"  # the ends of the colour map


def draw(
    scores: dict[float, dict[str, float]], weights: dict[str, Weights], pair: Pair, results: dict[str, Any]
) -> Figure:
    """Draw the scores over C, and each machine's weights `[D]`: as maps of pixels, or as bars."""
    channels = pair.shape[0] if len(pair.shape) == 3 else 1
    if len(pair.shape) == 3:
        lines = 1 if channels == 1 else len(weights)
        figure = Figure(figsize=(12, 3.7 * lines), layout="constrained")
        left, right = _halves(figure, [1, 2 if channels == 1 else channels])
        panels = right.subplots(lines, len(weights) if channels == 1 else channels, squeeze=False).ravel().tolist()
        draw_maps(panels, weights, pair, results)
    else:
        shown = min(BARS, pair.shape[0])
        figure = Figure(figsize=(12, max(3.7, 1.2 + 0.22 * shown)), layout="constrained")
        left, right = _halves(figure, [1, 2])
        draw_bars(right.subplots(1, len(weights), sharey=True).tolist(), weights, pair, results)
    draw_scores(left.subplots(), scores, results)
    draw_literally(figure)
    return figure


def _halves(figure: Figure, widths: list[int]) -> Any:
    return figure.subfigures(1, 2, width_ratios=widths)


def draw_scores(axes: Axes, scores: dict[float, dict[str, float]], results: dict[str, Any]) -> None:
    """Draw the mean scores of the folds over C."""
    grid = sorted(scores)
    for part, colour in (("train", "#777777"), ("test", "#4878a8")):
        means, spreads = (np.array([100 * scores[c][f"{kind}_{part}_score"] for c in grid]) for kind in ("mean", "std"))
        axes.plot(grid, means, "o-", markersize=4, color=colour, label=f"{part} part of the folds")
        axes.fill_between(grid, means - spreads, means + spreads, color=colour, alpha=0.18, linewidth=0)
    axes.axvline(results["best_C"], color="#c1272d", linewidth=1, linestyle="--", label=f"best, {results['best_C']:g}")
    axes.set(xscale="log", xlabel="C", ylabel="accuracy, %", title=f"L1: mean ± sd of {results['folds']} folds")
    axes.set_xticks(grid, [f"{c:g}" for c in grid])
    axes.minorticks_off()
    axes.legend(fontsize=8)


def draw_maps(panels: list[Axes], weights: dict[str, Weights], pair: Pair, results: dict[str, Any]) -> None:
    """Draw a map for each machine and channel, red for the second class; a weight of exactly 0 is grey."""
    first, second = legible(pair.names)
    label = f"for {first}   ←   weight   →   for {second}"
    channels = pair.shape[0]
    places = [(name, channel) for name in weights for channel in range(channels)]
    for panel, (name, channel) in zip(panels, places, strict=True):
        values = weights[name].reshape(pair.shape)[channel]
        # A few weights are so much larger than the others that these would be pale beside them.
        limit = float(np.quantile(np.abs(weights[name][weights[name] != 0]), 0.98)) if weights[name].any() else 1.0
        panel.set_facecolor("#d9d9d9")  # exact zeros are masked
        image = panel.imshow(
            np.ma.masked_equal(values, 0), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest"
        )
        if channel == channels - 1:
            panel.figure.colorbar(image, ax=panel, shrink=0.9, extend="both", label=label)
        title = caption(results["models"][name], name, (values == 0).mean())
        if channels > 1:
            kind = CHANNELS.get(channels, range(channels))[channel]
            title = f"{name}, {kind}: {(values == 0).mean():.0%} zeros (grey)"
            if channel == 0:
                panel.set_ylabel(f"{name}: test {results['models'][name]['test_accuracy']:.2%}")
        panel.set_title(title)
        panel.set(xticks=[], yticks=[])


def draw_bars(panels: list[Axes], weights: dict[str, Weights], pair: Pair, results: dict[str, Any]) -> None:
    """Draw a bar for each column, the one with the largest weight of either machine at the top."""
    largest = np.max([np.abs(one) / (np.abs(one).max() or 1) for one in weights.values()], axis=0)
    order = np.argsort(-largest, kind="stable")[:BARS][::-1]
    names = legible(pair.columns)
    first, second = legible(pair.names)
    for panel, (name, values) in zip(panels, weights.items(), strict=True):
        panel.barh(range(len(order)), values[order], color=np.where(values[order] > 0, FOR, AGAINST))
        panel.axvline(0, color="#222222", linewidth=0.8)
        panel.set_title(
            caption(results["models"][name], name, (values == 0).mean()).replace(" (grey)", ""), fontsize=10
        )
        panel.set_xlabel(f"for {first}   ←   weight   →   for {second}")
    panels[0].set_yticks(range(len(order)), [shortened(names[i]) for i in order], fontsize=8)
    if len(order) < len(names):
        panels[0].set_ylabel(f"the {len(order)} largest of {len(names)} columns")


def caption(row: dict[str, Any], name: str, zeros: float) -> str:
    """Return the title of a machine's weights."""
    return f"{name}: test {row['test_accuracy']:.2%}, {zeros:.0%} zeros (grey)"


def shortened(name: str, length: int = 28) -> str:
    """Return a name with its middle left out if it is long."""
    return name if len(name) <= length else f"{name[: length // 2]}…{name[-(length // 2 - 1) :]}"
