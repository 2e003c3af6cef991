"""Why the L1 penalty produces zeros and the L2 penalty does not, shown by a real two-parameter fit.

Two columns of scikit-learn's diabetes data (body mass index and blood pressure) predict disease progression, all
standardised. The loss is `mean((y - X w)^2) / 2`. Its minimum within `|w| <= radius` comes from the path of the
penalised problem: the lasso's is piecewise linear, ridge's is followed to the penalty at which the norm is the radius.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Patch, Polygon
from scipy.optimize import brentq
from sklearn.datasets import load_diabetes
from sklearn.linear_model import lars_path_gram

Array = npt.NDArray[np.floating[Any]]
COLUMNS, NAMES = (2, 3), ("body mass index", "blood pressure")
COLOURS = {"L1": "#3f8f4f", "L2": "#4878a8"}
NORMS = {"L1": "|w₁| + |w₂|", "L2": "√(w₁² + w₂²)"}


class Quadratic(NamedTuple):
    """The loss `w' gram w / 2 - moment' w + constant`."""

    gram: Array
    moment: Array
    constant: float

    def __call__(self, w: Array) -> Any:
        """Return the loss at `w` of shape `[..., 2]`."""
        return (w @ self.gram * w).sum(-1) / 2 - w @ self.moment + self.constant

    @property
    def optimum(self) -> Array:
        """The unconstrained minimum."""
        return np.linalg.solve(self.gram, self.moment)


def diabetes_loss() -> Quadratic:
    """Return the loss of the two-parameter fit."""
    data = load_diabetes(scaled=False)
    x, y = data.data[:, COLUMNS], data.target
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    return Quadratic(x.T @ x / len(y), x.T @ y / len(y), float(np.mean(y**2) / 2))


def within_l2(loss: Quadratic, radius: float) -> Array:
    """Return the minimum for `|w|_2 <= radius`: ridge with the penalty at which the norm is the radius."""
    if np.linalg.norm(loss.optimum) <= radius:
        return loss.optimum

    def at(penalty: float) -> Array:
        return np.linalg.solve(loss.gram + penalty * np.eye(len(loss.moment)), loss.moment)

    highest = float(np.linalg.norm(loss.moment)) / radius  # a penalty at which the norm is below the radius
    return at(float(brentq(lambda penalty: np.linalg.norm(at(penalty)) - radius, 0, highest, xtol=1e-14)))


def within_l1(loss: Quadratic, radius: float) -> Array:
    """Return the minimum for `|w|_1 <= radius`: the point of the lasso path with this norm."""
    if np.abs(loss.optimum).sum() <= radius:
        return loss.optimum
    _, _, path = lars_path_gram(Xy=loss.moment, Gram=loss.gram, n_samples=1, method="lasso")
    norms = np.abs(path).sum(0)
    return np.array([np.interp(radius, norms, row) for row in path])


def geometry(radius: float) -> tuple[Quadratic, dict[str, Any]]:
    """Return the loss, and its minimum without a constraint and within each ball."""
    loss = diabetes_loss()
    rows: dict[str, Any] = {"no bound": {"w": loss.optimum.tolist(), "loss": float(loss(loss.optimum))}}
    for name, within in (("L1", within_l1), ("L2", within_l2)):
        w = within(loss, radius)
        rows[name] = {"w": w.tolist(), "loss": float(loss(w)), "zeros": int((w == 0).sum())}
    return loss, {"radius": radius, "columns": list(NAMES), "optima": rows}


def draw(loss: Quadratic, results: dict[str, Any]) -> Figure:
    """Draw both balls and the loss's contours; the contour through the minimum touches the ball."""
    figure = Figure(figsize=(10.5, 5.2), layout="constrained")
    free, radius = loss.optimum, results["radius"]
    reach = 1.15 * max(radius, float(np.abs(free).max()))
    ticks = np.linspace(-0.6 * reach, 1.25 * reach, 301)
    losses = loss(np.stack(np.meshgrid(ticks, ticks), axis=-1))
    for axes, (name, colour) in zip(figure.subplots(1, 2, sharey=True), COLOURS.items(), strict=True):
        row = results["optima"][name]
        levels = loss(free) + (row["loss"] - loss(free)) * np.array([0.02, 0.15, 0.4, 0.7, 1.5, 2.2, 3.2])
        axes.contour(ticks, ticks, losses, levels=levels, colors="#aaaaaa", linewidths=0.8)
        axes.contour(ticks, ticks, losses, levels=[row["loss"]], colors="#c1272d", linewidths=1.6)
        axes.add_patch(ball(name, radius, facecolor=colour, alpha=0.35, edgecolor=colour, linewidth=1.5))
        axes.axhline(0, color="#222222", linewidth=0.8)
        axes.axvline(0, color="#222222", linewidth=0.8)
        axes.plot(*free, "*", color="#222222", markersize=11, label=f"no bound: ({free[0]:.3f}, {free[1]:.3f})")
        w = row["w"]
        axes.plot(*w, "o", color="#c1272d", markersize=8, label=f"within the ball: ({w[0]:.3f}, {w[1]:.3f})")
        axes.set(xlabel=f"w₁, {NAMES[0]}", ylabel=f"w₂, {NAMES[1]}", aspect="equal")
        axes.set_title(f"{name}: {NORMS[name]} ≤ {radius:g}")
        axes.legend(loc="lower right", fontsize=9)
    return figure


def ball(name: str, radius: float, **style: Any) -> Patch:
    """Return the set of weights whose norm is at most the radius."""
    if name == "L2":
        return Circle((0, 0), radius, **style)
    return Polygon([(radius, 0), (0, radius), (-radius, 0), (0, -radius)], closed=True, **style)
