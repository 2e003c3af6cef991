"""Reliability diagrams.

Niculescu-Mizil, Caruana, "Predicting good probabilities with supervised learning" (ICML 2005): in bins of the
confidence, the share of right answers against the confidence. A calibrated classifier's bars end on the diagonal.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ..figures import INK, RED, new_figure
from .bins import edges_and_sums, error_from_sums
from .inputs import Norm, Strategy, check_options, prepare

BLUE, GREY = "#4878a8", "#bbbbbb"
_NAMES = {"l1": "ECE", "l2": "RMSCE", "max": "MCE"}
_TICKS = np.linspace(0, 1, 6)

Array = npt.NDArray[np.float64]


def reliability_diagram(
    preds: Tensor | npt.ArrayLike,
    target: Tensor | npt.ArrayLike,
    *,
    n_bins: int = 15,
    norm: Norm = "l1",
    strategy: Strategy = "uniform",
    from_logits: bool = False,
    level: float = 0.95,
    title: str = "",
) -> Figure:
    """Draw accuracy against confidence, bin by bin, above the histogram of the confidence.

    Each bar is the accuracy of a bin, the red part the gap to the mean confidence, the whisker a bootstrap interval of
    the accuracy. The title has the calibration error, which is ``calibration_error`` of the same arguments (ECE, RMSCE
    or MCE by the norm).

    Args:
        preds: ``[N, K]`` or ``[N]``, see :func:`evaluation.calibration_error`.
        target: ``[N]`` integer labels.
        n_bins: Number of bins.
        norm: ``"l1"``, ``"l2"`` or ``"max"``.
        strategy: ``"uniform"`` or ``"quantile"``.
        from_logits: ``preds`` are logits.
        level: Share of resampled sets whose accuracy lies within the whisker.
        title: What stands before the calibration error.

    Returns:
        A matplotlib figure of its own, outside pyplot: the diagram is ``axes[0]``, the histogram ``axes[1]``.

    Raises:
        ValueError: As :func:`evaluation.calibration_error`; for a ``level`` outside (0, 1).

    Example:
        >>> figure = reliability_diagram([0.9, 0.9, 0.1, 0.1], [1, 0, 0, 0], n_bins=10)
        >>> figure.axes[0].get_title()
        'ECE 0.2500 (10 bins, 4 samples)'
    """
    check_options(n_bins, norm, strategy)
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level!r}")
    scores, labels = prepare(preds, target, from_logits)
    edges, sums = edges_and_sums(scores, labels, n_bins, strategy, from_logits)
    binary = scores.ndim == 1
    return diagram_of_sums(edges, sums, norm, level=level, title=title, binary=binary)


def diagram_of_sums(
    edges: Tensor, sums: Tensor, norm: Norm, *, level: float = 0.95, title: str = "", binary: bool = False
) -> Figure:
    """Draw the reliability diagram of bins: their edges ``[n_bins + 1]`` and sums ``[3, n_bins]``."""
    error = float(error_from_sums(sums, norm))
    limits = edges.numpy()
    count, confidence, correct = sums.cpu().double().numpy()
    held = np.flatnonzero(count)
    figure = new_figure(4.6, 5.4)
    diagram = _axes(figure, (0.15, 0.39, 0.8, 0.55), "share of class 1" if binary else "accuracy")
    histogram = _axes(figure, (0.15, 0.1, 0.8, 0.2), "share of samples")
    heading = f"{_NAMES[norm]} {error:.4f} ({len(count)} bins, {int(count.sum()):,} samples)"
    # With y matplotlib does not look for room above the (invisible) ticks, a third of the time of drawing.
    diagram.set_title(f"{title} {heading}".strip(), y=1.01, fontsize=10, color=INK, parse_math=False)

    left, width = limits[held], np.diff(limits)[held]
    sure, right = confidence[held] / count[held], correct[held] / count[held]
    _bars(diagram, left, width, np.zeros(len(held)), right, facecolor=BLUE, edgecolor="white", linewidth=0.6)
    gap = {"facecolor": RED, "alpha": 0.35, "edgecolor": RED, "linewidth": 0.6}
    _bars(diagram, left, width, np.minimum(sure, right), np.abs(sure - right), **gap)
    diagram.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="--")
    low, high = bootstrap_band(count, correct, level)
    diagram.vlines(left + width / 2, low[held], high[held], color=INK, linewidth=1.2)
    _ticks(diagram, _TICKS, "")
    _key(diagram, binary, level)

    share = count[held] / count.sum() if held.size else count[held]
    top = float(share.max()) if held.size and np.isfinite(share).all() else 1.0
    _bars(histogram, left, width, np.zeros(len(held)), share, facecolor=GREY, edgecolor="white", linewidth=0.6)
    histogram.set_ylim(0, 1.08 * top)
    _ticks(histogram, np.array([0, top]), "probability of class 1" if binary else "confidence")
    return figure


def bootstrap_band(count: Array, correct: Array, level: float = 0.95, replicates: int = 1000) -> tuple[Array, Array]:
    """Return the bootstrap interval of each bin's accuracy, by the quantiles of resampled sets.

    Resampling all N samples with replacement draws the numbers of right and wrong ones in all bins from a multinomial
    distribution: these are drawn, which is the same and does not need the samples.

    Args:
        count: ``[n_bins]`` samples.
        correct: ``[n_bins]`` right ones.
        level: Share of the resampled sets within the interval.
        replicates: Number of resampled sets.

    Returns:
        Lower and upper ends ``[n_bins]``, NaN for a bin without samples.
    """
    total = count.sum()
    low = np.full(len(count), np.nan)
    high = low.copy()
    if total == 0:
        return low, high
    cells = np.concatenate([correct, count - correct]) / total
    drawn = np.random.default_rng(0).multinomial(int(total), cells / cells.sum(), size=replicates)
    right, wrong = drawn[:, : len(count)], drawn[:, len(count) :]
    for held in np.flatnonzero(count):
        seen = right[:, held] + wrong[:, held]
        accuracy = right[seen > 0, held] / seen[seen > 0]
        low[held], high[held] = np.quantile(accuracy, [(1 - level) / 2, (1 + level) / 2])
    return low, high


def _axes(figure: Figure, place: tuple[float, float, float, float], label: str) -> Axes:
    """Return axes without matplotlib's own ticks: those take most of the time of drawing, which is once an epoch."""
    axes = figure.add_axes(place)
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, edgecolor=INK, linewidth=0.8))
    axes.text(
        -0.145, 0.5, label, transform=axes.transAxes, rotation=90, ha="center", va="center", fontsize=9, color=INK
    )
    return axes


def _bars(axes: Axes, left: Array, width: Array, bottom: Array, height: Array, **style: Any) -> None:
    shapes = zip(left, width, bottom, height, strict=True)
    axes.add_collection(PatchCollection([Rectangle((x, y), w, h) for x, w, y, h in shapes], **style), autolim=False)


def _ticks(axes: Axes, heights: Array, below: str) -> None:
    """Write the numbers beside the axes, and what the confidences are called below them."""
    small: dict[str, Any] = {"fontsize": 8, "color": INK}
    for height in heights:
        text = f"{height:.1f}" if len(heights) > 2 else f"{height:.2g}"
        axes.text(-0.02, height, text, transform=axes.get_yaxis_transform(), ha="right", va="center", **small)
    for place in _TICKS:
        axes.text(place, -0.02, f"{place:.1f}", transform=axes.get_xaxis_transform(), ha="center", va="top", **small)
    axes.text(0.5, -0.22, below, transform=axes.transAxes, ha="center", va="top", fontsize=9, color=INK)


def _key(axes: Axes, binary: bool, level: float) -> None:
    """Write what the colours mean below the diagram's numbers."""
    items = (
        (0.0, BLUE, 1.0, 4.0, "share of class 1" if binary else "accuracy"),
        (0.33 if binary else 0.22, RED, 0.35, 4.0, "gap to the probability" if binary else "gap to the confidence"),
        (0.72 if binary else 0.61, INK, 1.0, 1.2, f"{level:.0%} bootstrap"),
    )
    for x, colour, alpha, width, text in items:
        style: dict[str, Any] = {"color": colour, "alpha": alpha, "linewidth": width, "solid_capstyle": "butt"}
        axes.plot([x, x + 0.035], [-0.1, -0.1], transform=axes.transAxes, clip_on=False, **style)
        axes.text(x + 0.05, -0.1, text, transform=axes.transAxes, fontsize=7.5, color=INK, va="center_baseline")
