"""Scatter plots of clusterings, in which a cluster has the colour of the class that it shares most points with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import PCA
from sklearn.metrics.cluster import contingency_matrix

from evaluation.fonts import draw_literally, legible

Array = npt.NDArray[Any]
SHOWN = 5_000
"""Largest number of points of a figure."""
NOISE = "0.75"
_TAB20 = colormaps["tab20"].colors  # type: ignore[attr-defined]  # a ListedColormap
COLOURS = np.array([*_TAB20[::2], *(colour for i, colour in enumerate(_TAB20[1::2]) if i != 7)])
"""The ten dark colours and nine of the light ones; the tenth is that of noise. With more classes they repeat."""
LEAST_SHARE = 0.1
"""Share of a cluster's points that its class must have: in the end an assignment joins what is left, by chance."""


def matched(labels: Array, classes: Array, count: int) -> Array:
    """Return clusters `[N]` renamed to the classes `[N]`, of 0 to `count - 1`, that they share most points with.

    The assignment is one to one and maximises the number of points whose cluster and class agree. Clusters that are
    left over are numbered from `count`; noise, a label below 0, is -1.

    Example:
        >>> matched(np.array([7, 7, 3, 3, 5, -1]), np.array([0, 0, 1, 1, 1, 0]), 2)
        array([ 0,  0,  1,  1,  2, -1])
    """
    renamed = np.full(len(labels), -1)
    found, places = np.unique(labels[labels >= 0], return_inverse=True)
    if len(found):
        present, targets = np.unique(classes[labels >= 0], return_inverse=True)
        shared = contingency_matrix(places, targets)
        rows, columns = linear_sum_assignment(shared, maximize=True)
        names = np.full(len(found), -1)
        names[rows] = np.where(shared[rows, columns] >= LEAST_SHARE * shared[rows].sum(1), present[columns], -1)
        left_over = np.flatnonzero(names < 0)
        names[left_over] = count + np.arange(len(left_over))
        renamed[labels >= 0] = names[places]
    return renamed


def scatter_plots(
    rows: Sequence[Sequence[tuple[str, Array, Array]]], names: Sequence[str] = (), size: float = 2.6
) -> Figure:
    """Draw a grid of panels: each a title, points `[N, 2]` and labels `[N]` (-1 for noise, drawn grey).

    The first panel of a row shows the classes, the others clusterings of the same points in the classes' colours.

    Args:
        rows: The panels.
        names: A name for each class; by default "class 0", "class 1", ...
        size: Width and height of a panel in inches.
    """
    count = max([len(names), *(int(row[0][2].max()) + 1 for row in rows)])
    matches = [[row[0][2], *(matched(labels, row[0][2], count) for _, _, labels in row[1:])] for row in rows]
    figure = Figure(figsize=(size * len(rows[0]), size * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for row, renamed, line in zip(rows, matches, axes, strict=True):
        for (title, points, _), labels, panel in zip(row, renamed, line, strict=True):
            noise = labels < 0
            panel.scatter(*points[noise].T, s=3, color=NOISE, linewidths=0)
            panel.scatter(*points[~noise].T, s=3, c=_colours(labels[~noise], count), linewidths=0)
            panel.set(title=title, xticks=[], yticks=[])
    if count <= len(COLOURS):
        entries = list(zip(legible(names) or [f"class {i}" for i in range(count)], COLOURS, strict=False))
        labels = np.concatenate([labels for row in matches for labels in row])
        further = "; other colours: further clusters" * bool((labels >= count).any())
        noise_entry = [("noise", NOISE)] * bool((labels < 0).any())
        _legend(figure, [*entries, *noise_entry], f"class, and the cluster matched with it{further}")
    draw_literally(figure)
    return figure


def _colours(labels: Array, count: int) -> Array:
    """Return the colours of the classes 0 to `count - 1` and of further clusters, which have none of a class."""
    rest = COLOURS[count:] if count < len(COLOURS) else COLOURS
    further = rest[(labels - count) % len(rest)]
    return np.where((labels < count)[:, None], COLOURS[labels % len(COLOURS)], further)


def _legend(figure: Figure, entries: Sequence[tuple[str, Any]], title: str) -> None:
    """Draw names with their colours below the panels, as many in a line as there is room for."""
    style: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 6, "markeredgewidth": 0}
    handles = [Line2D([], [], color=colour, label=name, **style) for name, colour in entries]
    room = figure.get_figwidth() / (0.45 + 0.085 * max(len(name) for name, _ in entries))  # inches of a name
    figure.legend(handles=handles, loc="outside lower center", ncols=max(1, int(room)), title=title, frameon=False)


def in_the_plane(points: Array) -> Array:
    """Return points in two dimensions: as they are, or their first two principal components."""
    if points.shape[1] < 2:
        return np.pad(points, [(0, 0), (0, 1)])
    return points if points.shape[1] == 2 else PCA(2, svd_solver="full").fit_transform(points)
