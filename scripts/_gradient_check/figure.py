"""The figure of ``gradient_check.py``."""

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from _gradient_check.differences import choose, slope
from _gradient_check.subjects import Subject

COLOURS = {"layers": "#4878a8", "activations": "#3f8f4f", "backbones": "#d98c21", "wrong": "#c1272d"}
STEPS = np.logspace(-10, 0, 31)
SHOWN = 40


def figure(results: dict[str, Any], network: Subject) -> Figure:
    """How far each is from right, beside what the step does to the difference."""
    drawing = Figure(figsize=(11, 9), layout="constrained")
    left, right = drawing.subplots(1, 2, width_ratios=[1.3, 1])
    ladder(left, results)
    steps(right, results, network)
    return drawing


def ladder(axes: Axes, results: dict[str, Any]) -> None:
    """A point for each subject, left of the limit if it is right."""
    rows = [
        (section, name, row)
        for section in ("layers", "activations", "backbones")
        for name, row in results[section].items()
    ]
    for height, (section, _, row) in enumerate(reversed(rows)):
        colour = COLOURS[section if row["right"] else "wrong"]
        axes.plot(max(row["relative"], 1e-17), height, "o", color=colour, markersize=5)
    limit = results["limits"]["others"]["relative"]
    axes.axvline(limit, color="#222222", linestyle="--", linewidth=1)
    axes.text(limit, len(rows) - 0.2, "limit ", fontsize=9, ha="right")
    labels = [f"{name} (kinks: {row['kinks']})" if row["kinks"] else name for _, name, row in reversed(rows)]
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.set(xscale="log", ylim=(-1, len(rows) + 0.5), title="Backpropagation against central differences")
    axes.set_xlabel("largest difference / largest gradient")
    for section in ("layers", "activations", "backbones"):
        axes.plot([], [], "o", color=COLOURS[section], label=section)
    axes.legend(fontsize=9, loc="lower left")
    axes.grid(axis="x", alpha=0.3)


def steps(axes: Axes, results: dict[str, Any], network: Subject) -> None:
    """TwoLayerNet: the difference for every step, some coordinates of each parameter."""
    gradients = torch.autograd.grad(network.loss(), list(network.tensors.values()))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for (name, tensor), gradient in zip(network.tensors.items(), gradients, strict=True):
            # Where the gradient is 0 the loss is flat, and its difference says nothing of the step.
            steep = gradient.flatten().nonzero().flatten()
            places = steep[choose(len(steep), SHOWN, generator)].tolist()
            exact = gradient.flatten()[places].numpy()
            gaps = [np.abs([slope(network.loss, tensor, i, h) for i in places] - exact).mean() for h in STEPS]
            axes.plot(STEPS, gaps, label=name)
    used = results["limits"]["TwoLayerNet"]["step"]
    axes.axvline(used, color="#222222", linestyle="--", linewidth=1)
    axes.text(used, axes.get_ylim()[1], " used", fontsize=9, va="top")
    axes.set(xscale="log", yscale="log", xlabel="h", ylabel="mean absolute difference")
    axes.set_title("TwoLayerNet: what the step h does")
    axes.legend(fontsize=9)
    axes.grid(alpha=0.3)
