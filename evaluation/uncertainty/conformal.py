"""Conformal prediction sets: sets of classes that hold the label with a chosen probability."""

import math
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from ..calibration.inputs import prepare
from ..calibration.scalers.base import two_columns
from ..checks import Array, as_tensor, check_count

Method = Literal["lac", "aps", "raps"]


class ConformalSets:
    r"""Sets of classes that hold the label with probability at least :math:`1 - \alpha` on average over examples.

    `fit` takes scores :math:`s(x_i, y_i)` of held-out examples; a set holds the classes whose score is at most their
    :math:`\lceil (n + 1)(1 - \alpha) \rceil`-th smallest, and always the most probable class. The promise holds for any
    network, if held-out and new examples are exchangeable. With :math:`p_y` the probability of a class, :math:`r_y` its
    rank (1 for the most probable) and :math:`u` uniform in [0, 1]:

    - `lac`: :math:`1 - p_y`; the smallest sets (`Sadinle et al. 2019 <https://arxiv.org/abs/1609.00451>`_).
    - `aps`: :math:`u p_y` and the sum of all larger probabilities; larger sets for harder examples
      (`Romano et al. 2020 <https://arxiv.org/abs/2006.02544>`_).
    - `raps`: that and :math:`\lambda \max(0, r_y - k)`, against very large sets
      (`Angelopoulos et al. 2021 <https://arxiv.org/abs/2009.14193>`_).

    Args:
        alpha: Largest share of examples whose label is not in the set, in (0, 1).
        method: `lac`, `aps` or `raps`.
        randomized: Draw `u` for `aps` and `raps`; without it u is 1, and the sets hold the label more often.
        penalty: The lambda of `raps`, at least 0.
        rank: The k of `raps`, at least 0.
        seed: Seed of the draws, which continue from `fit` over all calls of `predict`.

    Attributes:
        threshold_: The largest score of a class in a set, a float; infinite where there are too few examples.

    Raises:
        ValueError: If an option is out of range; from `fit` and `predict`, for inputs as `calibration_error` refuses.

    Example:
        >>> sets = ConformalSets(alpha=0.5).fit([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]], [0, 0, 1])
        >>> round(sets.threshold_, 6)
        0.3
        >>> sets.predict([[0.8, 0.2], [0.29, 0.71], [0.5, 0.5]])
        array([[ True, False],
               [False,  True],
               [ True, False]])
    """

    threshold_: float

    def __init__(
        self,
        alpha: float = 0.1,
        method: Method = "lac",
        *,
        randomized: bool = True,
        penalty: float = 0.01,
        rank: int = 5,
        seed: int = 0,
    ) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must be in (0, 1), found {alpha!r}")
        if method not in get_args(Method):
            raise ValueError(f"method must be one of {', '.join(get_args(Method))}, found {method!r}")
        if not 0 <= penalty < math.inf:
            raise ValueError(f"penalty must be a finite number of at least 0, found {penalty!r}")
        self.alpha, self.method, self.randomized, self.penalty = alpha, method, randomized, penalty
        self.rank, self.seed = check_count("rank", rank, 0), seed

    def fit(self, preds: Array, target: Array, *, from_logits: bool = False) -> Self:
        """Take the threshold from held-out probabilities (or logits) `[N, K]` or `[N]`, and labels `[N]`."""
        predictions = prepare(preds, target, from_logits)
        self._generator = torch.Generator().manual_seed(self.seed)
        scores = self._scores(_probabilities(predictions.scores, from_logits))
        own = scores.gather(1, predictions.labels[:, None]).squeeze(1)
        place = math.ceil(round((len(own) + 1) * (1 - self.alpha), 9))
        self.threshold_ = float(own.sort().values[place - 1]) if place <= len(own) else math.inf
        return self

    def predict(self, preds: Array, *, from_logits: bool = False) -> Any:
        """Return whether each class is in the set of each example: bool `[N, K]`, a tensor for a tensor."""
        if not hasattr(self, "threshold_"):
            raise ValueError("ConformalSets is not fitted yet: call fit(preds, target)")
        given = as_tensor(preds)
        p = _probabilities(prepare(given, torch.zeros(len(given), dtype=torch.long), from_logits).scores, from_logits)
        inside = self._scores(p) <= self.threshold_
        inside.scatter_(1, p.argmax(1, keepdim=True), True)
        return inside if isinstance(preds, Tensor) else np.asarray(inside)

    def _scores(self, p: Tensor) -> Tensor:
        """Return the score of each class, `[N, K]`."""
        if self.method == "lac":
            return 1 - p
        ranked, order = p.sort(dim=1, descending=True, stable=True)
        share = torch.ones(len(p), 1, dtype=p.dtype)
        if self.randomized:
            share = torch.rand(share.shape, generator=self._generator, dtype=p.dtype)
        scores = ranked.cumsum(1) - ranked * (1 - share.to(p.device))
        if self.method == "raps":
            place = torch.arange(1, p.shape[1] + 1, dtype=p.dtype, device=p.device)
            scores = scores + self.penalty * (place - self.rank).clamp(min=0)
        return torch.empty_like(scores).scatter_(1, order, scores)


def _probabilities(scores: Tensor, from_logits: bool) -> Tensor:
    """Return float64 probabilities `[N, K]`."""
    wide = scores.double()
    if from_logits:
        return two_columns(wide).softmax(1)
    return torch.stack([1 - wide, wide], 1) if wide.ndim == 1 else wide
