"""Isotonic calibration: a non-decreasing curve for each class.

Zadrozny, Elkan, "Transforming classifier scores into accurate multiclass probability estimates" (KDD 2002): the
non-decreasing function of the class's log-odds with the least squared distance to the labels (pool adjacent violators).
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .one_vs_rest import OneVsRest, check_floor, laplace


class IsotonicCalibration(OneVsRest):
    """Fit a non-decreasing step function to each class against the rest, by scikit-learn's `IsotonicRegression`.

    Between the steps it is linear in the log-odds, outside of them constant. With more than two classes each row is
    divided by its sum. It needs more data than the parametric scalers, about 1,000 samples.

    Args:
        floor: Probabilities are kept within `[floor, 1 - floor]`. Otherwise a step without a sample of the class would
            have the probability 0, and one later sample there an infinite loss. None: `1 / (N + 2)`, Laplace's
            estimate for an event that never happened in N samples.

    Attributes:
        thresholds_: `[K, M]` log-odds at the ends of the steps, the last one repeated; `[1, M]` for two classes.
        values_: The probabilities there.

    Raises:
        ValueError: If `floor` is not in [0, 0.5).

    Example:
        >>> scaler = IsotonicCalibration(floor=0).fit([-3.0, -1.0, -2.0, 1.0, 3.0, 2.0], [0, 0, 1, 0, 1, 1])
        >>> scaler.predict_proba([-3.0, -1.5, 5.0])[:, 1].round(3)
        array([0.   , 0.333, 1.   ])
    """

    fitted = ("thresholds_", "values_")
    thresholds_: Tensor
    values_: Tensor

    def __init__(self, floor: float | None = None) -> None:
        super().__init__()
        self.floor = check_floor(floor)

    def _fit_columns(self, scores: Tensor, hits: Tensor) -> None:
        from sklearn.isotonic import IsotonicRegression

        columns = zip(scores.t().cpu().numpy(), hits.t().cpu().numpy(), strict=True)
        curves = [IsotonicRegression(y_min=0, y_max=1).fit(score, hit) for score, hit in columns]
        longest = max(2, *(len(curve.X_thresholds_) for curve in curves))

        def table(rows: list[npt.NDArray[np.float64]]) -> Tensor:
            padded = [np.pad(row, (0, longest - len(row)), mode="edge") for row in rows]
            return torch.from_numpy(np.stack(padded)).to(scores)

        floor = laplace(self.floor, len(hits))
        values = table([curve.y_thresholds_ for curve in curves]).clamp(floor, 1 - floor)
        self._set_fitted(thresholds_=table([curve.X_thresholds_ for curve in curves]), values_=values)

    def _columns(self, scores: Tensor) -> Tensor:
        ends, values = self.thresholds_.to(scores.dtype), self.values_.to(scores.dtype)
        rows = scores.t().contiguous()
        right = torch.searchsorted(ends, rows).clamp(1, ends.shape[1] - 1)
        low, high = ends.gather(1, right - 1), ends.gather(1, right)
        below, above = values.gather(1, right - 1), values.gather(1, right)
        share = torch.where(high > low, (rows - low) / (high - low), 1.0).clamp(0, 1)
        return torch.lerp(below, above, share).t()
