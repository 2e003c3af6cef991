"""The picture: sizes of conformal sets, risk over coverage, and the scores of both kinds of images."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from evaluation.figures import new_figure

BLUE, RED = "#4878a8", "#c1272d"


def draw(
    sizes: dict[str, Tensor],
    curves: dict[str, tuple[Tensor, Tensor]],
    scores: dict[str, tuple[Tensor, Tensor]],
    outside: str,
) -> Figure:
    """Return the figure."""
    figure = new_figure(4 * max(2, len(scores)), 7.5)
    figure.set_layout_engine("constrained")
    halves: Any = figure.subfigures(2, 1)
    above, below = halves
    axes, curve = above.subplots(1, 2)
    largest = int(max(size.max() for size in sizes.values()))
    for place, (method, size) in enumerate(sizes.items()):
        share = np.bincount(size.numpy(), minlength=largest + 1)[1:] / len(size)
        axes.bar(np.arange(1, largest + 1) + 0.27 * (place - 1), share, 0.25, label=method)
    axes.set(xlabel="classes in the set", ylabel="share of test images", title="Conformal sets")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    for name, (coverage, risk) in curves.items():
        curve.plot(coverage.numpy(), risk.numpy(), label=name)
    curve.set(xlabel="share of images that are answered", ylabel="share of errors", title="Risk over coverage")
    curve.legend()
    panels = below.subplots(1, len(scores))
    for axes, (name, (inside, others)) in zip(panels, scores.items(), strict=True):
        bins = np.histogram_bin_edges(np.concatenate([inside.numpy(), others.numpy()]), 40).tolist()
        for values, label, colour in ((inside, "test images", BLUE), (others, outside, RED)):
            share = np.full(len(values), 1 / len(values))
            axes.hist(values.numpy(), bins, weights=share, alpha=0.6, label=label, color=colour)
        axes.set(xlabel=name, ylabel="share of images")
        axes.legend()
    return figure
