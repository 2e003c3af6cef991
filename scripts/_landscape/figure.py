"""The figures of ``landscape.py``."""

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

COLOURS = ("#c1272d", "#4878a8")
Grid = npt.NDArray[np.float64]


def figure(networks: dict[str, Any], multiples: list[float], grid: list[float], title: str) -> Figure:
    """The loss along one direction for both networks, and over two directions for each, with the same levels."""
    drawing = Figure(figsize=(14, 4.3), layout="constrained")
    line, *maps = drawing.subplots(1, 1 + len(networks))
    for (name, network), colour in zip(networks.items(), COLOURS, strict=True):
        for number, losses in enumerate(network["line"]):
            label = f"{name}, top eigenvalue {network['top_eigenvalue']:.3g}" if number == 0 else None
            line.plot(multiples, losses, color=colour, linewidth=1.8 if number == 0 else 0.8, label=label)
    line.set(
        xlabel="multiple of the direction", ylabel="training loss", title="along the first direction (thin: the second)"
    )
    line.legend(fontsize=9, loc="upper center")
    line.grid(alpha=0.3)
    surfaces = [np.array(network["surface"]) for network in networks.values()]
    levels = shared_levels(surfaces)
    for axes, (name, network), surface in zip(maps, networks.items(), surfaces, strict=True):
        shown = np.clip(surface, levels[0], levels[-1])
        filled = axes.contourf(grid, grid, shown, levels=levels, cmap="viridis", norm=LogNorm(levels[0], levels[-1]))
        axes.contour(grid, grid, shown, levels=levels[::2], colors="white", linewidths=0.5)
        axes.plot(0, 0, "+", color="#ffffff", markersize=10)
        axes.set_aspect("equal")
        axes.set(xlabel="first direction", ylabel="second direction")
        axes.set_title(f"{name}: loss {network['loss']:.3g}, test accuracy {network['test_accuracy']:.2%}", fontsize=11)
    bar = drawing.colorbar(filled, ax=maps, label="training loss", format="%.2g")
    bar.set_ticks(levels[::3].tolist())
    drawing.suptitle(title, fontsize=11)
    return drawing


def relief(networks: dict[str, Any], grid: list[float], title: str) -> Figure:
    """The same surfaces as reliefs, both of one height."""
    drawing = Figure(figsize=(11, 4.8), layout="constrained")
    surfaces = [np.array(network["surface"]) for network in networks.values()]
    # The lower of the two highest points: above it the steeper network's walls would hide everything.
    top = min(float(np.nanmax(surface)) for surface in surfaces)
    across, along = np.meshgrid(grid, grid)
    for place, (name, surface) in enumerate(zip(networks, surfaces, strict=True)):
        axes: Any = drawing.add_subplot(1, len(networks), place + 1, projection="3d")
        cut = np.where(surface <= top, surface, np.nan)
        axes.plot_surface(across, along, cut, cmap="viridis", vmin=0, vmax=top, rstride=1, cstride=1, linewidth=0)
        axes.set(title=name, xlabel="first direction", ylabel="second direction", zlabel="loss", zlim=(0, top))
        axes.set(xticks=[grid[0], 0, grid[-1]], yticks=[grid[0], 0, grid[-1]])
        axes.view_init(elev=28, azim=-60)
    drawing.suptitle(title, fontsize=11)
    return drawing


def shared_levels(surfaces: list[Grid], count: int = 16) -> Grid:
    """Levels from the smallest loss to the largest, each the same factor above the one before."""
    values = np.concatenate([surface[np.isfinite(surface)] for surface in surfaces])
    low, high = max(float(values.min()), 1e-6), float(values.max())
    return np.geomspace(low, max(high, 1.01 * low), count)
