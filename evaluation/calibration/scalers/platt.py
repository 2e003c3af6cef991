"""Platt scaling: a logistic curve for each class.

Platt, "Probabilistic outputs for support vector machines" (1999)::

    p = sigmoid(a s + c),   s: the log-odds of the class
    a, c minimise the cross-entropy with the targets (N_+ + 1) / (N_+ + 2) for the class and 1 / (N_- + 2) for the rest
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from .minimise import minimise
from .one_vs_rest import OneVsRest


class PlattScaling(OneVsRest):
    """Fit a logistic curve to each class against the rest, by L-BFGS in float64.

    Platt's targets are neither 0 nor 1, so the curve is finite for separable labels too. With more
    than two classes each row is divided by its sum.

    Attributes:
        slope_: `[K]` a, or `[1]` for two classes.
        intercept_: c, likewise.

    Example:
        >>> scaler = PlattScaling().fit([-3.0, -1.0, -2.0, 1.0, 3.0, 2.0], [0, 0, 1, 0, 1, 1])
        >>> scaler.predict_proba([-2.0, 2.0]).round(3)
        array([[0.631, 0.369],
               [0.369, 0.631]])
    """

    fitted = ("slope_", "intercept_")
    slope_: Tensor
    intercept_: Tensor

    def _fit_columns(self, scores: Tensor, hits: Tensor) -> None:
        positives = hits.sum(dim=0)
        negatives = len(hits) - positives
        targets = torch.where(hits == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
        middle, spread = scores.mean(dim=0), scores.std(dim=0, correction=0)
        spread = torch.where(spread > 0, spread, 1.0)
        standard = (scores - middle) / spread

        def loss(parameters: Tensor) -> tuple[Tensor, Tensor]:
            slope, intercept = parameters
            raw = standard * slope + intercept
            away = (raw.sigmoid() - targets) / len(hits)
            value = binary_cross_entropy_with_logits(raw, targets, reduction="sum") / len(hits)
            return value, torch.stack([(away * standard).sum(dim=0), away.sum(dim=0)])

        slope, intercept = minimise(loss, torch.zeros_like(standard[:1]).repeat(2, 1))
        self._set_fitted(slope_=slope / spread, intercept_=intercept - slope / spread * middle)

    def _columns(self, scores: Tensor) -> Tensor:
        return (scores * self.slope_.to(scores.dtype) + self.intercept_.to(scores.dtype)).sigmoid()
