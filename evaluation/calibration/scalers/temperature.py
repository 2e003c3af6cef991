"""Temperature scaling: one number for all logits.

Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks" (ICML 2017)::

    p = softmax(z / T),   T = argmin of the negative log-likelihood of held-out data

With ``beta = 1/T`` the loss is convex (it is not in log T, where Newton's method from T = 1 diverges for a true T of
0.02)::

    f(beta)   = mean_i [ log sum_k exp(beta z_ik) - beta z_iy ]
    f'(beta)  = mean_i [ E_p z_i - z_iy ]
    f''(beta) = mean_i [ Var_p z_i ]          p_i = softmax(beta z_i)
"""

import math
import warnings

import torch
from torch import Tensor

from ..chunks import sum_over
from .base import Scaler, check_positive

_SAMPLE = 1 << 15  # rows that the first guess is made from
# Newton's last step is taken without looking at where it leads. A step from a loss d above the minimum leads to one
# about d^2 above it, times a number that is seldom above 1000: far below the rounding of a mean.
_TOLERANCE = 1e-8


class TemperatureScaling(Scaler):
    """Divide the logits by a temperature, which never changes the predicted class.

    ``f`` is minimised over ``1/T`` by Newton's method in float64, safeguarded by a bracket; the first steps look at
    some of the rows only. T is always within ``bounds``; when the optimum is not, T is the bound, and a warning says
    so.

    Args:
        bounds: Least and greatest temperature.

    Attributes:
        temperature_: T, a float64 scalar tensor.

    Raises:
        ValueError: For bad bounds; from ``fit``, if every label has the largest logit of its row (the loss then falls
            until T reaches 0), or if each row's logits are all equal (every T is as good).

    Example:
        >>> scaler = TemperatureScaling().fit([[4.0, 0.0], [4.0, 0.0], [0.0, 4.0], [0.0, 4.0]], [0, 0, 0, 1])
        >>> scaler.temperature_  # right in 3 of 4: sigmoid(4 / T) = 3/4
        tensor(3.6410, dtype=torch.float64)
        >>> scaler.predict_proba([[4.0, 0.0]]).round(6)
        array([[0.75, 0.25]])
    """

    fitted = ("temperature_",)
    temperature_: Tensor

    def __init__(self, bounds: tuple[float, float] = (1e-4, 1e4)) -> None:
        super().__init__()
        if len(bounds) != 2 or not check_positive("bounds", bounds[0]) < check_positive("bounds", bounds[1]):
            raise ValueError(f"bounds must be two temperatures, the least first, got {bounds!r}")
        self.bounds = bounds

    def _fit(self, logits: Tensor, labels: Tensor) -> None:
        step = math.ceil(len(labels) / _SAMPLE)
        if not _some_wrong(logits[::step], labels[::step]) and not _some_wrong(logits, labels):
            if bool((logits.amax(dim=1) == logits.amin(dim=1)).all()):
                raise ValueError("each row's logits are all equal: every temperature is as good")
            raise ValueError(
                "every label has the largest logit of its row, so that the loss falls until the temperature reaches 0: "
                "fit on held-out data, or on more of it, with some wrong predictions"
            )
        low, high = 1 / self.bounds[1], 1 / self.bounds[0]
        beta = min(max(1.0, low), high)
        if step > 1:
            beta, _ = _minimise(logits[::step], labels[::step], beta, low, high, 1e-7)
        beta, inside = _minimise(logits, labels, beta, low, high, _TOLERANCE)
        if not inside:
            warnings.warn(
                f"the best temperature lies beyond {1 / beta:g}, where bounds={self.bounds} end: "
                "the labels do not go with the logits, or the logits have an unusual scale",
                stacklevel=3,
            )
        self._set_fitted(temperature_=torch.tensor(1 / beta, dtype=torch.float64, device=logits.device))

    def _calibrate(self, logits: Tensor) -> Tensor:
        return logits / self.temperature_.to(logits.dtype)

    def _classes(self) -> int | None:
        return None


def _some_wrong(logits: Tensor, labels: Tensor) -> bool:
    return bool((logits.gather(1, labels[:, None]).squeeze(1) < logits.amax(dim=1)).any())


def _minimise(
    logits: Tensor, labels: Tensor, beta: float, low: float, high: float, tolerance: float
) -> tuple[float, bool]:
    """Return the minimum of the loss over ``beta`` in ``[low, high]``, and whether it lies inside."""
    ends = {low: False, high: False}  # whether the slope there is known
    bracket = [low, high]
    for _ in range(200):
        slope, curvature = _derivatives(logits, labels, beta)
        if (beta == low and slope >= 0) or (beta == high and slope <= 0):
            return beta, slope == 0
        bracket[slope > 0] = beta
        if beta in ends:
            ends[beta] = True
        newton = beta - slope / curvature if curvature > 0 else math.copysign(math.inf, -slope)
        if slope * slope <= 2 * tolerance * curvature:
            return min(max(newton, low), high), True
        if bracket[0] < newton < bracket[1]:
            beta = newton
        else:  # look at the end of the range once, then halve the bracket in log scale
            end = bracket[slope < 0]
            beta = end if ends.get(end) is False else math.sqrt(bracket[0] * bracket[1])
            if bracket[1] - bracket[0] <= 1e-15 * bracket[1]:
                break
    return beta, True


def _derivatives(logits: Tensor, labels: Tensor, beta: float) -> tuple[float, float]:
    """Return ``f'`` and ``f''``, summed in float64."""

    def sums(piece: Tensor, target: Tensor) -> Tensor:
        # Classes first: sums over few classes are then sums of long rows.
        below = torch.empty(piece.shape[::-1], dtype=torch.float64, device=piece.device).copy_(piece.t())
        below -= below.amax(dim=0)
        own = below.gather(0, target[None]).sum()
        weight = (below * beta).exp_()
        total = weight.sum(dim=0)
        mean = weight.mul_(below).sum(dim=0).div_(total)
        square = weight.mul_(below).sum(dim=0).div_(total)
        return torch.stack([mean.sum() - own, square.addcmul_(mean, mean, value=-1).sum()])

    slope, curvature = (sum_over(sums, logits, labels) / len(labels)).tolist()
    return slope, max(curvature, 0.0)
