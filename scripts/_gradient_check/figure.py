"""The figure of `gradient_check.py`."""

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from _gradient_check.differences import central_difference, choose
from _gradient_check.subjects import Subject

COLOURS = {"layers": "#4878a8", "activations": "#3f8f4f", "backbones": "#d98c21"}
WRONG = "#c1272d"
STEPS = np.logspace(-10, 0, 31)
COORDINATES = 40


def draw(results: dict[str, Any], network: Subject) -> Figure:
    """Draw each subject's difference, and how the difference depends on the step."""
    figure = Figure(figsize=(11, 9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.3, 1])
    _draw_differences(left, results)
    _draw_steps(right, results, network)
    return figure


def draw_rows(results: dict[str, Any]) -> Figure:
    """Draw the largest difference of each tensor of a module, with its limit."""
    rows = [
        (name if mode == "function" else f"{name} ({mode})", mode, row)
        for mode, tensors in results["gradients"].items()
        for name, row in tensors.items()
    ][::-1]
    figure = Figure(figsize=(9, 1.6 + 0.25 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for height, (_, mode, row) in enumerate(rows):
        colour = (COLOURS["layers"] if mode == "train" else COLOURS["activations"]) if row["right"] else WRONG
        axes.plot(max(row["largest"], 1e-17), height, "o", color=colour, markersize=5)
        axes.plot(row["limit"], height, "|", color="#222222", markersize=10)
    axes.plot([], [], "|", color="#222222", markersize=10, label="limit")
    if not all(row["right"] for _, _, row in rows):
        axes.plot([], [], "o", color=WRONG, label="wrong")
    labels = [f"{name} (kinks: {row['kinks']})" if row["kinks"] else name for name, _, row in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.set(xscale="log", ylim=(-1, len(rows)), xlabel="largest difference of the two gradients")
    axes.set_title(f"{results['module']}: backpropagation against central differences")
    axes.legend(fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    return figure


def _draw_differences(axes: Axes, results: dict[str, Any]) -> None:
    """Draw a point for each subject; a correct one is left of the limit."""
    rows = [(section, name, row) for section in COLOURS for name, row in results[section].items()][::-1]
    for height, (section, _, row) in enumerate(rows):
        colour = COLOURS[section] if row["right"] else WRONG
        axes.plot(max(row["relative"], 1e-17), height, "o", color=colour, markersize=5)
    limit = results["limits"]["others"]["relative"]
    axes.axvline(limit, color="#222222", linestyle="--", linewidth=1)
    axes.text(limit, len(rows) - 0.2, "limit ", fontsize=9, ha="right")
    labels = [f"{name} (kinks: {row['kinks']})" if row["kinks"] else name for _, name, row in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.set(xscale="log", ylim=(-1, len(rows) + 0.5), title="Backpropagation against central differences")
    axes.set_xlabel("largest difference / largest gradient")
    for section, colour in COLOURS.items():
        axes.plot([], [], "o", color=colour, label=section)
    axes.legend(fontsize=9, loc="lower left")
    axes.grid(axis="x", alpha=0.3)


def _draw_steps(axes: Axes, results: dict[str, Any], network: Subject) -> None:
    """Draw TwoLayerNet's mean difference for every step, for some coordinates of each parameter."""
    gradients = torch.autograd.grad(network.loss(), list(network.tensors.values()))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for (name, tensor), gradient in zip(network.tensors.items(), gradients, strict=True):
            # Where the gradient is 0 the loss is flat, and the difference does not depend on the step.
            steep = gradient.flatten().nonzero().flatten()
            indices = steep[choose(len(steep), COORDINATES, generator)].tolist()
            exact = gradient.flatten()[indices].numpy()
            slopes = [[central_difference(network.loss, tensor, i, h) for i in indices] for h in STEPS]
            axes.plot(STEPS, np.abs(slopes - exact).mean(axis=1), label=name)
    used = results["limits"]["TwoLayerNet"]["step"]
    axes.axvline(used, color="#222222", linestyle="--", linewidth=1)
    axes.text(used, axes.get_ylim()[1], " used", fontsize=9, va="top")
    axes.set(xscale="log", yscale="log", xlabel="step h", ylabel="mean absolute difference")
    axes.set_title("TwoLayerNet: influence of the step h")
    axes.legend(fontsize=9)
    axes.grid(alpha=0.3)
