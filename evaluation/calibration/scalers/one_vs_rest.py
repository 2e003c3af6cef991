"""Binary calibration of each class against the rest, after Zadrozny and Elkan (KDD 2002).

The probability of each class is calibrated separately, as a function of its log-odds `log(q / (1 - q))` with
`q = softmax(z)`, and each row is divided by its sum. The log-odds are computed from the logits, so nothing is lost to
probabilities that round to 1. With two classes, only class 1 is calibrated; class 0 has the remaining probability.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ..inputs import Predictions
from .base import Scaler


class OneVsRest(Scaler):
    """Base of the scalers that calibrate one class at a time; subclasses implement `_fit_columns` and `_columns`."""

    def _fit(self, predictions: Predictions) -> None:
        odds, hits = log_odds(predictions.scores.double()), one_hot(predictions.labels, predictions.scores.shape[1])
        self._fit_columns(_calibrated_columns(odds), _calibrated_columns(hits).double())

    def _calibrate(self, logits: Tensor) -> Tensor:
        p = self._columns(_calibrated_columns(log_odds(logits)))
        if p.shape[1] == 1:
            return torch.cat([1 - p, p], dim=1).log()
        total = p.sum(dim=1, keepdim=True)
        return torch.where(total > 0, p / total, 1 / p.shape[1]).log()

    def _fit_columns(self, scores: Tensor, hits: Tensor) -> None:
        """Fit to the log-odds `[N, C]` of C classes, and 1 where a class is the label, otherwise 0; all float64."""
        raise NotImplementedError

    def _columns(self, scores: Tensor) -> Tensor:
        """Return the calibrated probability of each of the log-odds `[N, C]`."""
        raise NotImplementedError


def _calibrated_columns(scores: Tensor) -> Tensor:
    return scores[:, 1:] if scores.shape[1] == 2 else scores


def log_odds(logits: Tensor) -> Tensor:
    """Return `log(q / (1 - q))` of `q = softmax(logits)`: each logit minus the logsumexp of the others."""
    log_q = logits.log_softmax(dim=1)
    top = logits.argmax(dim=1, keepdim=True)
    others = logits.scatter(1, top, -float("inf")).logsumexp(dim=1, keepdim=True)
    # For q up to 1/2, log(1 - q) is exact enough; only the largest probability can be above.
    odds = log_q - torch.log1p(-log_q.exp().clamp(max=0.75))
    return odds.scatter(1, top, logits.gather(1, top) - others)


def laplace(floor: float | None, count: int) -> float:
    """Return the given probability, or Laplace's estimate for an event that never happened in `count` samples."""
    return 1 / (count + 2) if floor is None else floor


def check_floor(floor: float | None) -> float | None:
    """Return a probability below 1/2, or None, or raise a ValueError."""
    if floor is not None and not (isinstance(floor, int | float) and 0 <= floor < 0.5):
        raise ValueError(f"floor must be None or a number in [0, 0.5), found {floor!r}")
    return floor
