"""Vector scaling: a factor and an offset for each class.

Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks" (ICML 2017)::

    p = softmax(w * z + b)
    loss = negative log-likelihood + l2 * (|w - 1|^2 + |b|^2)
"""

import torch
from torch import Tensor

from ..inputs import Predictions
from .base import Scaler, check_positive
from .minimise import minimise, softmax_loss


class VectorScaling(Scaler):
    """Scale and shift the logit of each class; the loss is convex and is minimised by L-BFGS in float64.

    The small penalty towards the identity keeps the fit finite where the data alone do not: for separable labels.

    Args:
        l2: Weight of the penalty.

    Attributes:
        scale_: `[K]` w.
        bias_: `[K]` b.

    Raises:
        ValueError: If `l2` is negative.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
        >>> scaler = VectorScaling().fit(logits, torch.tensor([0, 0, 1, 1]))
        >>> scaler.predict_proba(logits)[0, 0]  # right in 2 of 3
        tensor(0.6667, dtype=torch.float64)
    """

    fitted = ("scale_", "bias_")
    scale_: Tensor
    bias_: Tensor

    def __init__(self, l2: float = 1e-6) -> None:
        super().__init__()
        self.l2 = check_positive("l2", l2, zero=True)

    def _fit(self, predictions: Predictions) -> None:
        scores = predictions.scores
        identity = torch.zeros(2, scores.shape[1], dtype=torch.float64, device=scores.device)
        identity[0] = 1

        def loss(parameters: Tensor) -> tuple[Tensor, Tensor]:
            scale, bias = parameters

            def sums(chunk: Predictions) -> Tensor:
                z = chunk.scores.double()
                value, by_logits = softmax_loss(z * scale + bias, chunk.labels)
                return torch.cat([value[None], (by_logits * z).sum(dim=0), by_logits.sum(dim=0)])

            mean = predictions.mean(sums)
            away = parameters - identity
            return mean[0] + self.l2 * away.square().sum(), mean[1:].view(2, -1) + 2 * self.l2 * away

        scale, bias = minimise(loss, identity)
        self._set_fitted(scale_=scale.clone(), bias_=bias.clone())

    def _calibrate(self, logits: Tensor) -> Tensor:
        return logits * self.scale_.to(logits.dtype) + self.bias_.to(logits.dtype)
