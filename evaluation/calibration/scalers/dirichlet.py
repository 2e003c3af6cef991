"""Dirichlet calibration: a linear map of the log-probabilities.

Kull, Perello-Nieto, Kaengsepp, Silva Filho, Song, Flach, "Beyond temperature scaling: obtaining well-calibrated
multiclass probabilities with Dirichlet calibration" (NeurIPS 2019)::

    p = softmax(W log q + b),   q = softmax(z)
    loss = negative log-likelihood + off_diagonal * mean_{i != j} W_ij^2 + intercept * mean_j b_j^2      (ODIR)
"""

import torch
from torch import Tensor

from ..inputs import Predictions
from .base import Scaler, check_positive
from .minimise import minimise, softmax_loss


class DirichletCalibration(Scaler):
    """Map the log-probabilities by a matrix and an offset, with off-diagonal and intercept regularisation (ODIR).

    It has `K (K + 1)` parameters: with many classes and few samples the penalties matter and are best chosen by
    cross-validation. They do not touch the diagonal, so infinite penalties leave a factor for each class.

    Args:
        off_diagonal: Weight of the mean square of W outside its diagonal.
        intercept: Weight of the mean square of b.

    Attributes:
        weight_: `[K, K]` W.
        bias_: `[K]` b.

    Raises:
        ValueError: If a weight is negative.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
        >>> scaler = DirichletCalibration(off_diagonal=1e-6, intercept=1e-6).fit(logits, torch.tensor([0, 0, 1, 1, 0]))
        >>> scaler.predict_proba(logits)[:, 0]  # right in 2 of 3, and in 1 of 2
        tensor([0.6667, 0.6667, 0.6667, 0.5000, 0.5000], dtype=torch.float64)
    """

    fitted = ("weight_", "bias_")
    weight_: Tensor
    bias_: Tensor

    def __init__(self, off_diagonal: float = 1e-2, intercept: float = 1e-2) -> None:
        super().__init__()
        self.off_diagonal = check_positive("off_diagonal", off_diagonal, zero=True)
        self.intercept = check_positive("intercept", intercept, zero=True)

    def _fit(self, predictions: Predictions) -> None:
        classes, device = predictions.scores.shape[1], predictions.scores.device
        start = torch.eye(classes, classes + 1, dtype=torch.float64, device=device)  # W and, as last column, b
        penalty = torch.full_like(start, self.off_diagonal / (classes * (classes - 1)))
        penalty.fill_diagonal_(0.0)
        penalty[:, -1] = self.intercept / classes

        def loss(parameters: Tensor) -> tuple[Tensor, Tensor]:
            weight, bias = parameters[:, :-1], parameters[:, -1]

            def sums(chunk: Predictions) -> Tensor:
                log_q = chunk.scores.double().log_softmax(dim=1)
                value, by_logits = softmax_loss(log_q @ weight.t() + bias, chunk.labels)
                gradient = torch.cat([by_logits.t() @ log_q, by_logits.sum(dim=0)[:, None]], dim=1)
                return torch.cat([value[None], gradient.flatten()])

            mean = predictions.mean(sums)
            value = mean[0] + (penalty * parameters.square()).sum()
            return value, mean[1:].view_as(parameters) + 2 * penalty * parameters

        best = minimise(loss, start)
        self._set_fitted(weight_=best[:, :-1].clone(), bias_=best[:, -1].clone())

    def _calibrate(self, logits: Tensor) -> Tensor:
        return logits.log_softmax(dim=1) @ self.weight_.to(logits.dtype).t() + self.bias_.to(logits.dtype)
