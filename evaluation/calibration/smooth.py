"""Smooth calibration error: a kernel in place of bins, whose width follows from the data.

Blasiok, Nakkiran, "Smooth ECE: principled reliability diagrams via kernel smoothing" (ICLR 2024; arXiv 2309.12236).
With the residuals `r_i = correct_i - confidence_i` and the Gaussian kernel `K_s`, reflected at 0 and 1::

    smECE_s = integral over t in [0, 1] of | (1/N) sum_i K_s(t, confidence_i) r_i |
    smECE   = smECE_s at the s where smECE_s = s

`smECE_s` does not increase with `s`, so there is exactly one such `s`. It is within a constant factor of the distance
to the nearest calibrated predictor and, unlike the binned error, continuous in the confidences.

Reflection makes `K_s` the heat kernel of an insulated interval, which is diagonal in the cosines: one cosine transform
gives the smoothed residuals, with the `k`-th coefficient multiplied by `exp(-(pi k s)^2 / 2)`. The residuals are first
put on a grid of `m` cells, each split between the two nearest centres; `1/m` is so far below `s` that the result
changes by less than 1e-4 of its value.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..checks import Array
from .bins import confidences, sums_in
from .inputs import Predictions, accumulation_dtype, like, prepare

_COARSE, _FINE = 1 << 12, 1 << 18
_CELLS_IN_WIDTH = 32


def smooth_calibration_error(preds: Array, target: Array, *, from_logits: bool = False) -> Tensor | float:
    """Compute the smooth calibration error of the confidence.

    Arguments, result and errors are those of `calibration_error`.

    Example:
        >>> smooth_calibration_error([1.0, 0.0, 1.0], [1, 0, 1])
        0.0
        >>> round(smooth_calibration_error([0.5] * 4, [1, 1, 1, 0]), 3)  # one residual of 0.25: smECE = 0.25
        0.25
    """
    return like(smooth_error(prepare(preds, target, from_logits)), preds)


def smooth_error(predictions: Predictions) -> Tensor:
    """Compute `smooth_calibration_error` of checked predictions."""
    confidence, correct = confidences(predictions)
    confidence = confidence.to(accumulation_dtype(confidence.device)).clamp(0, 1)
    residual = (correct.to(confidence) - confidence) / len(confidence)
    cells = _COARSE
    error = _fixed_point(_on_grid(confidence, residual, cells))
    while 0 < error * cells < _CELLS_IN_WIDTH and cells < _FINE:
        cells *= 8
        error = _fixed_point(_on_grid(confidence, residual, cells))
    return torch.tensor(error, dtype=confidence.dtype, device=confidence.device)


def _on_grid(confidence: Tensor, residual: Tensor, cells: int) -> npt.NDArray[np.float64]:
    """Split each residual between the two nearest of the centres `(j + 1/2) / cells`."""
    position = confidence * cells - 0.5
    left = position.floor()
    right_share = position - left
    # Beyond the outermost centres a share goes to the cell's mirror image at 0 or 1, which is the cell itself.
    both = torch.stack([left, left + 1]).long().clamp(0, cells - 1)
    shares = torch.stack([residual * (1 - right_share), residual * right_share])
    return sums_in(both, cells, shares)[0].cpu().double().numpy()


def _fixed_point(grid: npt.NDArray[np.float64]) -> float:
    """Return the width `s` at which the absolute smoothed residuals sum to `s`."""
    from scipy.fft import dct, idct
    from scipy.optimize import brentq

    coefficients = dct(grid, type=2, norm="ortho")
    squares = -0.5 * (np.pi * np.arange(len(grid))) ** 2

    def excess(s: float) -> float:
        return float(np.abs(idct(coefficients * np.exp(squares * s * s), type=2, norm="ortho")).sum()) - s

    smallest = 1e-12  # below this, the residuals cancel up to rounding
    if excess(smallest) <= 0:
        return 0.0
    return float(brentq(excess, smallest, 1.0, xtol=1e-16, rtol=1e-9)) if excess(1.0) < 0 else 1.0
