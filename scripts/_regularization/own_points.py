"""A polynomial through the points of a CSV file, without a penalty, with L2 and with L1.

The feature is scaled to [-1, 1] and the target to mean 0 and standard deviation 1 of the fitted points, so that powers
do not overflow and the strengths of the penalties fit any units. A share of the points is held out to measure errors.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from _regularization.polynomial_fits import COLOURS, MODELS, TITLES, Polynomial, fit_normalized, powers
from datamodules.files.csv_table import read_table
from evaluation.fonts import draw_literally

Array = npt.NDArray[np.float64]
HELD_OUT = 0.25
"""Share of the points that are not fitted."""


class Points(NamedTuple):
    """Points of a file."""

    x: Array  # [N]
    y: Array  # [N]
    names: tuple[str, str]  # of feature and target
    held_out: npt.NDArray[np.bool_]  # [N]


class Curve(NamedTuple):
    """A polynomial of the scaled feature, in the units of the file."""

    polynomial: Polynomial  # of the scaled feature, giving the scaled target
    x: tuple[float, float]  # centre and half width of the feature
    y: tuple[float, float]  # mean and standard deviation of the target

    def __call__(self, x: Array) -> Array:
        """Return the values at `x`."""
        return self.y[0] + self.y[1] * self.polynomial((x - self.x[0]) / self.x[1])


def read_points(path: Path, target: str, feature: str | None, seed: int) -> Points:
    """Read a feature and the target of a CSV file; columns of words are left out.

    Args:
        path: The file.
        target: Name or number of the target column.
        feature: Name of the feature; None: the only other column of numbers.
        seed: Seed of the choice of the points that are held out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has no such columns of numbers, or too few points.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--csv: there is no file {path}")
    content = read_table(path, target, False, text="drop", prefix="--")
    if content.target.dtype.kind not in "fiu":
        raise ValueError(f"--target {target} of {path} must hold numbers, found words")
    if feature is None and len(content.names) > 1:
        raise ValueError(f"--feature: choose one of {path}'s columns {', '.join(content.names)}")
    name = feature if feature is not None else next(iter(content.names), "")
    if name not in content.names:
        raise ValueError(f"--feature {name} is no column of numbers of {path}: it has {', '.join(content.names)}")
    x, y = content.features[:, content.names.index(name)].astype(float), content.target.astype(float)
    held_out = np.zeros(len(x), dtype=bool)
    held_out[np.random.default_rng(seed).permutation(len(x))[: int(HELD_OUT * len(x))]] = True
    for values, what in ((x[~held_out], name), (y[~held_out], "the target")):
        if len(np.unique(values)) < 2:
            raise ValueError(f"{path}: a curve needs two values of {what}, found {len(np.unique(values))}")
    return Points(x, y, (name, content.target_name), held_out)


def fit_all(points: Points, degree: int) -> tuple[dict[str, Curve], dict[str, dict[str, Any]]]:
    """Fit the three polynomials; return them, and their errors on the fitted and the held-out points."""
    x, y = points.x[~points.held_out], points.y[~points.held_out]
    centre, half = (x.max() + x.min()) / 2, (x.max() - x.min()) / 2
    mean, spread = y.mean(), y.std()
    curves, rows = {}, {}
    for name, model in MODELS.items():
        fitted = fit_normalized(model, powers((x - centre) / half, degree), (y - mean) / spread)
        curve = curves[name] = Curve(fitted, (float(centre), float(half)), (float(mean), float(spread)))
        errors = (curve(points.x) - points.y) ** 2
        rows[name] = {
            "rmse_on_points": float(np.sqrt(errors[~points.held_out].mean())),
            "rmse_held_out": float(np.sqrt(errors[points.held_out].mean())) if points.held_out.any() else None,
            "coefficients_not_0": int(np.count_nonzero(fitted.coefficients)),
            "intercept": fitted.intercept,
            "coefficients": fitted.coefficients.tolist(),
        }
    return curves, rows


def draw(points: Points, curves: dict[str, Curve], rows: dict[str, dict[str, Any]], degree: int) -> Figure:
    """Draw each polynomial with the points."""
    fine = np.linspace(points.x.min(), points.x.max(), 801)
    margin = 0.3 * (float(np.ptp(points.y)) or 1.0)
    figure = Figure(figsize=(13, 4), layout="constrained")
    for axes, (name, curve) in zip(figure.subplots(1, len(curves), sharey=True), curves.items(), strict=True):
        for held, colour, label in ((False, "#222222", "points"), (True, "#d98c21", "held out")):
            chosen = points.held_out == held
            axes.plot(points.x[chosen], points.y[chosen], "o", color=colour, markersize=3, label=label)
        axes.plot(fine, curve(fine), color=COLOURS[name], linewidth=1.6, label="fit")
        error, count = rows[name]["rmse_held_out"], rows[name]["coefficients_not_0"]
        held_out = "" if error is None else f", error held out {error:.3g}"
        axes.set_title(f"{TITLES[name]}\n{count} of {degree} coefficients{held_out}", fontsize=10)
        axes.set(xlabel=points.names[0], ylim=(points.y.min() - margin, points.y.max() + margin))
        axes.legend(fontsize=8)
        axes.set_ylabel(points.names[1] if name == next(iter(curves)) else "")
    draw_literally(figure)
    return figure
