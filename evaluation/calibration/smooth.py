"""Smooth calibration error: no bins, a kernel whose width the data choose.

Blasiok, Nakkiran, "Smooth ECE: principled reliability diagrams via kernel smoothing" (ICLR 2024; arXiv 2309.12236).
With the residuals ``r_i = correct_i - confidence_i`` and the Gaussian kernel ``K_s``, reflected at 0 and 1::

    smECE_s = integral over t in [0, 1] of | (1/N) sum_i K_s(t, confidence_i) r_i |
    smECE   = smECE_s at the s where smECE_s = s

``smECE_s`` does not rise with ``s``, so there is one such ``s``, found by bisection. It is within a constant factor of
the distance to the nearest calibrated predictor and, unlike the binned error, continuous in the confidences.

Reflection makes ``K_s`` the heat kernel of an interval that no heat leaves, which is diagonal in the cosines: the
smoothed residuals come from one cosine transform, in which the ``k``-th coefficient is multiplied by
``exp(-(pi k s)^2 / 2)``. The residuals are first put on a grid of ``m`` cells, each shared between the two nearest
centres, with ``1/m`` so far below ``s`` that the result changes by less than a ten-thousandth of itself.
"""

import numpy as np
import numpy.typing as npt
import torch
from scipy.fft import dct, idct
from torch import Tensor

from .bins import confidences
from .chunks import accumulation_dtype
from .inputs import answer, prepare

_COARSE, _FINE = 1 << 12, 1 << 18
_CELLS_IN_WIDTH = 32


def smooth_calibration_error(
    preds: Tensor | npt.ArrayLike,
    target: Tensor | npt.ArrayLike,
    *,
    from_logits: bool = False,
) -> Tensor | float:
    """Compute the smooth calibration error of the confidence.

    Args:
        preds: ``[N, K]`` or ``[N]``, see :func:`evaluation.calibration_error`.
        target: ``[N]`` integer labels.
        from_logits: ``preds`` are logits.

    Returns:
        The error in [0, 1]: a float64 scalar tensor on the device of ``preds`` when that is a tensor, else a float.

    Raises:
        ValueError: As :func:`evaluation.calibration_error`.

    Example:
        >>> smooth_calibration_error([1.0, 0.0, 1.0], [1, 0, 1])
        0.0
        >>> round(smooth_calibration_error([0.5] * 4, [1, 1, 1, 0]), 3)  # one residual of 0.25: smECE = 0.25
        0.25
    """
    scores, labels = prepare(preds, target, from_logits)
    confidence, correct = confidences(scores, labels, from_logits)
    work = accumulation_dtype(scores.device)
    confidence = confidence.to(work).clamp(0, 1)
    residual = (correct.to(work) - confidence) / len(confidence)
    cells = _COARSE
    error = _fixed_point(_on_grid(confidence, residual, cells))
    while 0 < error * cells < _CELLS_IN_WIDTH and cells < _FINE:
        cells *= 8
        error = _fixed_point(_on_grid(confidence, residual, cells))
    return answer(torch.tensor(error, dtype=work, device=scores.device), preds)


def _on_grid(confidence: Tensor, residual: Tensor, cells: int) -> npt.NDArray[np.float64]:
    """Share each residual between the two nearest of the centres ``(j + 1/2) / cells``."""
    place = confidence * cells - 0.5
    left = place.floor()
    right_share = place - left
    grid = torch.zeros(cells, dtype=residual.dtype, device=residual.device)
    # Beyond the outermost centres a share goes to the cell's mirror image at 0 or 1, which is the cell itself.
    grid.scatter_add_(0, left.long().clamp(0, cells - 1), residual * (1 - right_share))
    grid.scatter_add_(0, (left.long() + 1).clamp(0, cells - 1), residual * right_share)
    return grid.cpu().double().numpy()


def _fixed_point(grid: npt.NDArray[np.float64]) -> float:
    """Return the ``s`` at which the absolute smoothed residuals sum to ``s``."""
    coefficients = dct(grid, type=2, norm="ortho")
    squares = -0.5 * (np.pi * np.arange(len(grid))) ** 2

    def smoothed(s: float) -> float:
        return float(np.abs(idct(coefficients * np.exp(squares * s * s), type=2, norm="ortho")).sum())

    if not np.abs(grid).sum() > 0:
        return 0.0
    low, high = 0.0, 1.0
    while high - low > 1e-7 * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if smoothed(middle) > middle else (low, middle)
        if high < 1e-12:  # what is left of residuals that cancel
            return 0.0
    return high
