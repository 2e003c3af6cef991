"""The figures of `landscape.py`."""

import math
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from evaluation.fonts import draw_literally

COLOURS = ("#c1272d", "#4878a8")


def draw(networks: dict[str, Any], multiples: list[float], grid: list[float], title: str) -> Figure:
    """Draw the loss along both directions, and over the surface of each network, with shared logarithmic levels."""
    figure = Figure(figsize=(14, 4.3), layout="constrained")
    line, *maps = figure.subplots(1, 1 + len(networks))
    for (name, network), colour in zip(networks.items(), COLOURS, strict=True):
        label = f"{name}, top eigenvalue {network['top_eigenvalue']:.3g}"
        for losses, width in zip(network["line"], (1.8, 0.8), strict=True):
            line.plot(multiples, losses, color=colour, linewidth=width, label=label if width > 1 else None)
    line.set(xlabel="multiple of the direction", ylabel="training loss", title="first direction (thin lines: second)")
    line.legend(fontsize=9, loc="upper center")
    line.grid(alpha=0.3)
    surfaces = [np.array(network["surface"]) for network in networks.values()]
    finite = np.concatenate([surface[np.isfinite(surface)] for surface in surfaces])
    lowest = max(float(finite.min()), 1e-6)
    levels = np.geomspace(lowest, max(float(finite.max()), 1.01 * lowest), 16)
    for axes, (name, network), surface in zip(maps, networks.items(), surfaces, strict=True):
        clipped = np.clip(surface, levels[0], levels[-1])
        filled = axes.contourf(grid, grid, clipped, levels=levels, cmap="viridis", norm=LogNorm(levels[0], levels[-1]))
        axes.contour(grid, grid, clipped, levels=levels[::2], colors="white", linewidths=0.5)
        axes.plot(0, 0, "+", color="#ffffff", markersize=10)
        axes.set(xlabel="first direction", ylabel="second direction", aspect="equal")
        axes.set_title(f"{name}: loss {network['loss']:.3g}, test accuracy {network['test_accuracy']:.2%}", fontsize=11)
    bar = figure.colorbar(filled, ax=maps, label="training loss", format="%.2g")
    bar.set_ticks(levels[::3].tolist())
    figure.suptitle(title, fontsize=11)
    return figure


def draw_between(names: list[str], found: dict[str, Any]) -> Figure:
    """Draw the loss on the line between two networks, and on a plane through both."""
    figure = Figure(figsize=(11, 4.3), layout="constrained")
    line, plane = figure.subplots(1, 2)
    for losses, colour, part in zip(found["losses"], ("#222222", "#d98c21"), ("training", "test"), strict=True):
        line.plot(found["line"], losses, color=colour, label=f"{part} loss")
    for place, (name, colour) in enumerate(zip(names, COLOURS, strict=True)):
        line.axvline(place, color=colour, linestyle="--", linewidth=1, label=name)
        plane.plot(place, 0, "o", color=colour, markeredgecolor="white", label=name)
    line.set(xlabel="place on the line", ylabel="loss", title="on the line between the networks")
    if _spans_a_decade([value for losses in found["losses"] for value in losses]):
        line.set_yscale("log")
        for set_formatter in (line.yaxis.set_major_formatter, line.yaxis.set_minor_formatter):
            set_formatter("{x:.3g}")  # without formulas, as names have
    line.legend(fontsize=9)
    line.grid(alpha=0.3, which="both")
    surface = np.array(found["plane"])
    finite = surface[np.isfinite(surface)]
    lowest = max(float(finite.min()), 1e-6)
    levels = np.geomspace(lowest, max(float(finite.max()), 1.01 * lowest), 16)
    clipped = np.clip(np.nan_to_num(surface, nan=levels[-1]), levels[0], levels[-1])
    norm = LogNorm(levels[0], levels[-1])
    filled = plane.contourf(found["x"], found["y"], clipped, levels=levels, cmap="viridis", norm=norm)
    plane.contour(found["x"], found["y"], clipped, levels=levels[::2], colors="white", linewidths=0.5)
    bar = figure.colorbar(filled, ax=plane, label="training loss", format="%.2g")
    bar.set_ticks(levels[::3].tolist())
    plane.set(xlabel="place on the line", ylabel="random direction", title="on a plane through both")
    plane.legend(fontsize=9, loc="upper right")
    draw_literally(figure)
    return figure


def _spans_a_decade(losses: list[float]) -> bool:
    """Return whether a logarithmic axis has labels enough; it shows no loss of 0."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    return bool(finite) and 0 < 10 * min(finite) <= max(finite)


def draw_relief(networks: dict[str, Any], grid: list[float], title: str) -> Figure:
    """Draw both surfaces as reliefs of the same height."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    surfaces = [np.array(network["surface"]) for network in networks.values()]
    # The lower of the two maxima: the steeper network's walls would hide everything else.
    top = min(float(np.nanmax(surface)) for surface in surfaces)
    x, y = np.meshgrid(grid, grid)
    for place, (name, surface) in enumerate(zip(networks, surfaces, strict=True)):
        axes: Any = figure.add_subplot(1, len(networks), place + 1, projection="3d")
        cut = np.where(surface <= top, surface, np.nan)
        axes.plot_surface(x, y, cut, cmap="viridis", vmin=0, vmax=top, rstride=1, cstride=1, linewidth=0)
        axes.set(title=name, xlabel="first direction", ylabel="second direction", zlabel="loss", zlim=(0, top))
        axes.set(xticks=[grid[0], 0, grid[-1]], yticks=[grid[0], 0, grid[-1]])
        axes.view_init(elev=28, azim=-60)
    figure.suptitle(title, fontsize=11)
    return figure
