"""A polynomial of degree 30 through 50 noisy points, without a penalty, with L2 and with L1.

The experiment was first run with the `normalize=True` that scikit-learn's linear models once had: columns are centred
and divided by their Euclidean norm (not by their standard deviation, which is smaller by the square root of the number
of points), the target is centred, the penalised model is fitted to these, and its coefficients are divided by the same
norms. `fit_normalized` does the same.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LassoLars, LinearRegression, Ridge

Array = npt.NDArray[np.float64]
DEGREE, POINTS, LIMIT, NOISE = 30, 50, 10.0, 0.05
# scikit-learn's default tolerance discards a third of these columns' directions, which regularises too.
MODELS = {"none": LinearRegression(tol=np.finfo(np.float64).eps), "L2": Ridge(0.5), "L1": LassoLars(0.001)}
TITLES = {"none": "no regularisation", "L2": "L2: Ridge, 0.5", "L1": "L1: LassoLars, 0.001"}
COLOURS = {"none": "#c1272d", "L2": "#4878a8", "L1": "#3f8f4f"}


class Polynomial(NamedTuple):
    """The polynomial `intercept + sum of coefficients[k] x^(k + 1)`."""

    intercept: float
    coefficients: Array

    def __call__(self, x: Array) -> Array:
        """Return the values at `x`."""
        return self.intercept + powers(x, len(self.coefficients)) @ self.coefficients


def truth(x: Array) -> Array:
    """Return the curve without noise, `0.001 (-x^3 + x^2 + x)`."""
    return 0.001 * (-(x**3) + x**2 + x)


def sample(seed: int) -> tuple[Array, Array]:
    """Return 50 equidistant points, and the curve at them plus normal noise."""
    x = np.linspace(-LIMIT, LIMIT, POINTS)
    noise = np.random.RandomState(seed).normal(0, NOISE, POINTS)  # the same numbers as after np.random.seed(seed)
    return x, truth(x) + noise


def powers(x: Array, degree: int = DEGREE) -> Array:
    """Return the columns x, x^2, ..., x^degree."""
    return x[:, None] ** np.arange(1, degree + 1)


def fit_normalized(model: BaseEstimator, columns: Array, y: Array) -> Polynomial:
    """Fit a clone of a linear model to columns `[N, D]` and targets `[N]` as `normalize=True` did.

    The coefficients are those of the original columns; a constant column is not divided.

    Example:
        >>> line = fit_normalized(LinearRegression(), np.array([[0.0], [2.0], [4.0]]), np.array([1.0, 2.0, 3.0]))
        >>> round(line.intercept, 12), line.coefficients.round(12).tolist()
        (1.0, [0.5])
    """
    centre, y_mean = columns.mean(0), y.mean()
    norms = np.linalg.norm(columns - centre, axis=0)
    norms[norms == 0] = 1
    fitted: Any = clone(model).set_params(fit_intercept=False).fit((columns - centre) / norms, y - y_mean)
    coefficients = fitted.coef_ / norms
    return Polynomial(float(y_mean - centre @ coefficients), coefficients)


def fit_all(seed: int, degree: int = DEGREE) -> tuple[dict[str, Polynomial], dict[str, dict[str, Any]]]:
    """Fit the three polynomials; return them, and their errors on the points and on the true curve."""
    x, y = sample(seed)
    fine = np.linspace(-LIMIT, LIMIT, 1001)
    fits, rows = {}, {}
    for name, model in MODELS.items():
        fits[name] = fitted = fit_normalized(model, powers(x, degree), y)
        error = fitted(fine) - truth(fine)
        rows[name] = {
            "rmse_on_points": float(np.sqrt(np.mean((fitted(x) - y) ** 2))),
            "rmse_on_true_curve": float(np.sqrt(np.mean(error**2))),
            "largest_error_on_true_curve": float(np.abs(error).max()),
            "coefficients_not_0": int(np.count_nonzero(fitted.coefficients)),
            "intercept": fitted.intercept,
            "coefficients": fitted.coefficients.tolist(),
        }
    return fits, rows


def draw(fits: dict[str, Polynomial], rows: dict[str, dict[str, Any]], seed: int) -> Figure:
    """Draw each polynomial with the points and the true curve."""
    x, y = sample(seed)
    fine = np.linspace(-LIMIT, LIMIT, 801)
    figure = Figure(figsize=(13, 4), layout="constrained")
    for axes, (name, fitted) in zip(figure.subplots(1, len(fits), sharey=True), fits.items(), strict=True):
        axes.plot(fine, truth(fine), color="#999999", linewidth=3, label="true curve")
        axes.plot(x, y, "o", color="#222222", markersize=3, label="points")
        axes.plot(fine, fitted(fine), color=COLOURS[name], linewidth=1.6, label="fit")
        error, count = rows[name]["rmse_on_true_curve"], rows[name]["coefficients_not_0"]
        axes.set_title(
            f"{TITLES[name]}\n{count} of {len(fitted.coefficients)} coefficients, error on the curve {error:.3f}",
            fontsize=10,
        )
        axes.set(xlabel="x", ylim=(-1.05, 1.3))
        axes.legend(fontsize=8, loc="upper right")
    return figure


def table(fits: dict[str, Polynomial]) -> dict[str, dict[str, str]]:
    """Return the coefficients to print: a row for each power, a column for each fit."""
    columns = {name: [fitted.intercept, *fitted.coefficients] for name, fitted in fits.items()}
    return {
        f"x^{power}": {name: f"{values[power]: .3e}" if values[power] else " 0" for name, values in columns.items()}
        for power in range(len(next(iter(columns.values()))))
    }
