"""Temperature scaling: one number for all logits.

Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks" (ICML 2017)::

    p = softmax(z / T),   T = argmin of the negative log-likelihood of held-out data

The loss is convex in `beta = 1/T` (it is not in log T), so its minimum is the root of an increasing function::

    f'(beta) = mean_i [ E_p z_i - z_iy ]          p_i = softmax(beta z_i)
"""

import math
import warnings
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from ..inputs import Predictions
from .base import Scaler, check_positive

_SAMPLE = 1 << 14  # rows for the first estimate


class TemperatureScaling(Scaler):
    """Divide the logits by a temperature, which never changes the predicted class.

    The root of `f'` is found in log T, in float64: by Brent's method on some rows, then by Newton's on all of them. T
    is always within `bounds`; if the optimum is not, T is the bound, with a warning.

    Args:
        bounds: Least and greatest temperature.

    Attributes:
        temperature_: T, a float64 scalar tensor.

    Raises:
        ValueError: For bad bounds; from `fit`, if every label has the largest logit of its row (the loss then decreases
            as T approaches 0), or if the logits of each row are all equal (every T gives the same loss).

    Example:
        >>> scaler = TemperatureScaling().fit([[4.0, 0.0], [4.0, 0.0], [0.0, 4.0], [0.0, 4.0]], [0, 0, 0, 1])
        >>> scaler.temperature_  # right in 3 of 4: sigmoid(4 / T) = 3/4
        tensor(3.6410, dtype=torch.float64)
        >>> scaler.predict_proba([[4.0, 0.0]]).round(6)
        array([[0.75, 0.25]])
    """

    fitted = ("temperature_",)
    fits_each_class = False
    temperature_: Tensor

    def __init__(self, bounds: tuple[float, float] = (1e-4, 1e4)) -> None:
        super().__init__()
        if len(bounds) != 2 or not check_positive("bounds", bounds[0]) < check_positive("bounds", bounds[1]):
            raise ValueError(f"bounds must be two temperatures, the least first, found {bounds!r}")
        self.bounds = bounds

    def _fit(self, predictions: Predictions) -> None:
        step = math.ceil(len(predictions) / _SAMPLE)
        some = Predictions(predictions.scores[::step], predictions.labels[::step], from_logits=True)
        if not _some_wrong(some) and not _some_wrong(predictions):
            if bool((predictions.scores.amax(dim=1) == predictions.scores.amin(dim=1)).all()):
                raise ValueError("each row's logits are all equal, so every temperature gives the same loss")
            raise ValueError(
                "every label has the largest logit of its row, so the loss decreases as the temperature approaches 0: "
                "fit on held-out data, or on more of it, with some wrong predictions"
            )
        temperature, inside = _bracketed(some, self.bounds, 1e-3)
        if inside:
            temperature, inside = _refined(predictions, temperature, self.bounds)
        if not inside:  # some rows are not like all of them
            temperature, inside = _bracketed(predictions, self.bounds, 1e-7)
        if not inside:
            warnings.warn(
                f"the best temperature is beyond {temperature:g}, the end of bounds={self.bounds}: "
                "the labels do not match the logits, or the logits have an unusual scale",
                stacklevel=4,
            )
        self._set_fitted(temperature_=torch.tensor(temperature, dtype=torch.float64, device=predictions.scores.device))

    def _calibrate(self, logits: Tensor) -> Tensor:
        return logits / self.temperature_.to(logits.dtype)


def _some_wrong(predictions: Predictions) -> bool:
    own = predictions.scores.gather(1, predictions.labels[:, None]).squeeze(1)
    return bool((own < predictions.scores.amax(dim=1)).any())


def _bracketed(predictions: Predictions, bounds: tuple[float, float], tolerance: float) -> tuple[float, bool]:
    """Return the best temperature within bounds, to a relative tolerance, and whether it is inside."""
    from scipy.optimize import brentq

    slope = cache(lambda log_temperature: _slopes(predictions, log_temperature)[0])
    least, greatest = (math.log(bound) for bound in bounds)
    if slope(least) <= 0:
        return bounds[0], slope(least) == 0
    if slope(greatest) >= 0:
        return bounds[1], slope(greatest) == 0
    return math.exp(brentq(slope, least, greatest, xtol=tolerance)), True


def _refined(predictions: Predictions, start: float, bounds: tuple[float, float]) -> tuple[float, bool]:
    """Return the best temperature near `start`, and whether it was found within the bounds."""
    from scipy.optimize import root_scalar

    # After a step of 3e-4 the error is about its square, which leaves a loss within its own rounding of the minimum.
    options: dict[str, Any] = {"method": "newton", "fprime": True, "xtol": 3e-4, "maxiter": 5}
    newton = root_scalar(partial(_slopes, predictions), x0=math.log(start), **options)
    inside = newton.converged and math.log(bounds[0]) <= newton.root <= math.log(bounds[1])
    return (math.exp(newton.root), True) if inside else (start, False)


def _slopes(predictions: Predictions, log_temperature: float) -> tuple[float, float]:
    """Return `f'` and its derivative in log T, summed in float64."""
    beta = math.exp(-log_temperature)

    def sums(chunk: Predictions) -> Tensor:
        # Classes first: sums over a few classes are then sums of long rows.
        z = torch.empty(chunk.scores.shape[::-1], dtype=torch.float64, device=chunk.scores.device)
        z.copy_(chunk.scores.t())
        z -= z.amax(dim=0)
        own = z.gather(0, chunk.labels[None]).sum()
        weight = (z * beta).exp_()
        scale = weight.sum(dim=0)
        mean = weight.mul_(z).sum(dim=0).div_(scale)
        square = weight.mul_(z).sum(dim=0).div_(scale)
        return torch.stack([mean.sum() - own, square.addcmul_(mean, mean, value=-1).sum()])

    slope, curvature = predictions.mean(sums).tolist()
    return slope, -beta * curvature
