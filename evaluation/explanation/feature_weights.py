"""Signed weights of named features in eli5's form."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from eli5.base import FeatureWeight, FeatureWeights

Top = int | tuple[int, int] | None


def weights_of(
    features: Sequence[str], weights: npt.NDArray[Any], values: Sequence[float] | None, top: Top
) -> FeatureWeights:
    """Put signed weights into eli5's form: the greatest first, zeros left out, the rest counted.

    Raises:
        ValueError: If ``top`` is not a number or a pair of numbers.
    """
    numbers = (top,) if isinstance(top, int) else (top or ())
    if isinstance(top, bool) or not all(isinstance(n, int) and n >= 0 for n in numbers) or len(numbers) > 2:
        raise ValueError(f"top must be a number, a pair (positive, negative) or None, got {top!r}")
    order = np.argsort(-np.abs(weights), kind="stable")
    if isinstance(top, int):
        kept = [i for i in order if weights[i] != 0][:top]
    else:
        positive, negative = (None, None) if top is None else tuple(top)
        kept = [i for i in order if weights[i] > 0][:positive] + [i for i in order if weights[i] < 0][:negative]

    def feature(i: int) -> FeatureWeight:
        return FeatureWeight(features[i], float(weights[i]), value=None if values is None else values[i])

    pos, neg = ([feature(i) for i in kept if weights[i] * sign > 0] for sign in (1, -1))
    return FeatureWeights(
        pos,
        neg,
        pos_remaining=int((weights > 0).sum()) - len(pos),
        neg_remaining=int((weights < 0).sum()) - len(neg),
    )
