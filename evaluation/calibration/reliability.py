"""Reliability diagrams.

Niculescu-Mizil, Caruana, "Predicting good probabilities with supervised learning" (ICML 2005): in bins of the
confidence, the accuracy against the confidence. The bars of a calibrated classifier end on the diagonal.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..checks import Array
from ..figures import INK, new_figure
from .bins import edges_and_sums, error_from_sums
from .inputs import Norm, Strategy, check_level, check_options, prepare

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, GREY, PINK, AMBER = "#4878a8", "#bbbbbb", "#eaafb1", "#e8b04b"
_NAMES = {"l1": "ECE", "l2": "RMSCE", "max": "MCE"}
_TICKS = np.linspace(0, 1, 6)

Floats = npt.NDArray[np.float64]


def reliability_diagram(
    preds: Array,
    target: Array,
    *,
    n_bins: int = 15,
    norm: Norm = "l1",
    strategy: Strategy = "uniform",
    from_logits: bool = False,
    level: float = 0.95,
    title: str = "",
) -> "Figure":
    """Draw accuracy against confidence, bin by bin, above the histogram of the confidence.

    Each bar is the accuracy of a bin, the whisker a bootstrap interval of the accuracy. The gap to the mean confidence
    is red above the bar of an overconfident bin, and yellow at the upper end of the bar of an underconfident one. The
    title shows `calibration_error` of the same arguments (ECE, RMSCE or MCE, depending on the norm).

    Arguments that are not listed are those of `calibration_error`.

    Args:
        level: Share of resampled sets whose accuracy is within the whisker.
        title: Text in front of the calibration error.

    Returns:
        A matplotlib figure, independent of pyplot: the diagram is `axes[0]`, the histogram `axes[1]`.

    Raises:
        ValueError: As `calibration_error`; for a `level` outside (0, 1).

    Example:
        >>> figure = reliability_diagram([0.9, 0.9, 0.1, 0.1], [1, 0, 0, 0], n_bins=10)
        >>> figure.axes[0].get_title()
        'ECE 0.2500 (10 bins, 4 samples)'
    """
    check_options(n_bins, norm, strategy)
    check_level(level)
    predictions = prepare(preds, target, from_logits)
    binary = predictions.scores.ndim == 1
    edges, sums = edges_and_sums(predictions, n_bins, strategy)
    return diagram_of_sums(edges, sums, norm, level=level, title=title, binary=binary)


def diagram_of_sums(
    edges: Tensor, sums: Tensor, norm: Norm, *, level: float = 0.95, title: str = "", binary: bool = False
) -> "Figure":
    """Draw the reliability diagram of bins: their edges `[n_bins + 1]` and sums `[3, n_bins]`."""
    error = float(error_from_sums(sums, norm))
    limits = edges.numpy()
    count, confidence, correct = sums.cpu().double().numpy()
    filled = np.flatnonzero(count)
    figure = new_figure(4.6, 5.4)
    diagram = _axes(figure, (0.15, 0.42, 0.8, 0.52), "share of class 1" if binary else "accuracy")
    histogram = _axes(figure, (0.15, 0.1, 0.8, 0.2), "share of samples")
    heading = f"{_NAMES[norm]} {error:.4f} ({len(count)} bins, {int(count.sum()):,} samples)"
    # With y given, matplotlib does not measure the (invisible) ticks, which would take a third of the drawing time.
    diagram.set_title(f"{title} {heading}".strip(), y=1.01, fontsize=10, color=INK, parse_math=False)

    left, width = limits[filled], np.diff(limits)[filled]
    mean, right = confidence[filled] / count[filled], correct[filled] / count[filled]
    _bars(diagram, left, width, np.zeros(len(filled)), right, facecolor=BLUE, edgecolor="white", linewidth=0.6)
    colours = np.where(mean > right, PINK, AMBER).tolist()
    _bars(
        diagram,
        left,
        width,
        np.minimum(mean, right),
        np.abs(mean - right),
        facecolor=colours,
        edgecolor=INK,
        linewidth=0.4,
    )
    diagram.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="--")
    low, high = bootstrap_band(count, correct, level)
    diagram.vlines(left + width / 2, low[filled], high[filled], color=INK, linewidth=1.2)
    _ticks(diagram, _TICKS, "")
    _key(diagram, binary, level)

    share = count[filled] / count.sum() if filled.size else count[filled]
    top = float(share.max()) if filled.size and np.isfinite(share).all() else 1.0
    _bars(histogram, left, width, np.zeros(len(filled)), share, facecolor=GREY, edgecolor="white", linewidth=0.6)
    histogram.set_ylim(0, 1.08 * top)
    _ticks(histogram, np.array([0, top]), "probability of class 1" if binary else "confidence")
    return figure


def bootstrap_band(
    count: Floats, correct: Floats, level: float = 0.95, replicates: int = 1000
) -> tuple[Floats, Floats]:
    """Return the bootstrap interval of the accuracy of each bin: quantiles over resampled sets.

    If all N samples are resampled with replacement, the numbers of right and wrong ones in all bins follow a
    multinomial distribution. They are drawn directly, without the samples. Samples, right ones and both ends are
    `[n_bins]`; the ends are NaN for a bin without samples.
    """
    total = count.sum()
    low = np.full(len(count), np.nan)
    high = low.copy()
    if total == 0:
        return low, high
    shares = np.concatenate([correct, count - correct]) / total
    draws = np.random.default_rng(0).multinomial(int(total), shares / shares.sum(), size=replicates)
    right, wrong = draws[:, : len(count)], draws[:, len(count) :]
    for index in np.flatnonzero(count):
        samples = right[:, index] + wrong[:, index]
        accuracy = right[samples > 0, index] / samples[samples > 0]
        low[index], high[index] = np.quantile(accuracy, [(1 - level) / 2, (1 + level) / 2])
    return low, high


def _axes(figure: "Figure", position: tuple[float, float, float, float], label: str) -> "Axes":
    """Return axes without matplotlib's own ticks, which would take most of the drawing time."""
    from matplotlib.patches import Rectangle

    axes = figure.add_axes(position)
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, edgecolor=INK, linewidth=0.8))
    style: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "center", "fontsize": 9, "color": INK}
    axes.text(-0.145, 0.5, label, transform=axes.transAxes, **style)
    return axes


def _bars(axes: "Axes", left: Floats, width: Floats, bottom: Floats, height: Floats, **style: Any) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    shapes = zip(left, width, bottom, height, strict=True)
    axes.add_collection(PatchCollection([Rectangle((x, y), w, h) for x, w, y, h in shapes], **style), autolim=False)


def _ticks(axes: "Axes", heights: Floats, label: str) -> None:
    """Draw the tick labels, and the label of the horizontal axis."""
    small: dict[str, Any] = {"fontsize": 8, "color": INK}
    for height in heights:
        text = f"{height:.1f}" if len(heights) > 2 else f"{height:.2g}"
        axes.text(-0.02, height, text, transform=axes.get_yaxis_transform(), ha="right", va="center", **small)
    for tick in _TICKS:
        axes.text(tick, -0.02, f"{tick:.1f}", transform=axes.get_xaxis_transform(), ha="center", va="top", **small)
    axes.text(0.5, -0.22, label, transform=axes.transAxes, ha="center", va="top", fontsize=9, color=INK)


def _key(axes: "Axes", binary: bool, level: float) -> None:
    """Draw the legend, two rows of two, below the tick labels of the diagram."""
    items = (
        (0.0, -0.1, BLUE, 4.0, "share of class 1" if binary else "accuracy"),
        (0.5, -0.1, INK, 1.2, f"{level:.0%} bootstrap"),
        (0.0, -0.155, PINK, 4.0, "gap: probability too high" if binary else "gap: overconfident"),
        (0.5, -0.155, AMBER, 4.0, "gap: probability too low" if binary else "gap: underconfident"),
    )
    for x, y, colour, width, text in items:
        style: dict[str, Any] = {"color": colour, "linewidth": width, "solid_capstyle": "butt"}
        axes.plot([x, x + 0.035], [y, y], transform=axes.transAxes, clip_on=False, **style)
        axes.text(x + 0.05, y, text, transform=axes.transAxes, fontsize=7.5, color=INK, va="center_baseline")
