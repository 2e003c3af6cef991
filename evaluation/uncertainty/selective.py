"""Selective classification: the errors that are left when the least certain predictions are refused."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checks import Array, as_tensor


def risk_coverage(confidence: Array, wrong: Array) -> tuple[Any, Any]:
    """Return the curve of risk over coverage (El-Yaniv & Wiener 2010, https://jmlr.org/papers/v11/el-yaniv10a.html).

    For each number of answers the risk is the mean loss of the most confident ones; equally confident examples count
    with the mean loss of all of them, so that their order does not matter.

    Args:
        confidence: Confidence of each prediction, `[N]`, such as `max_probability(logits)`.
        wrong: Loss of each prediction, `[N]`: whether it is wrong, or any number.

    Returns:
        Coverage `[N]`, which is 1/N to 1, and risk `[N]`, float64; tensors for tensors, otherwise numpy arrays.

    Raises:
        ValueError: If the shapes differ, there is no example, or a value is NaN.

    >>> coverage, risk = risk_coverage([0.9, 0.8, 0.7, 0.6], [0, 0, 1, 1])
    >>> coverage, risk
    (array([0.25, 0.5 , 0.75, 1.  ]), array([0.        , 0.        , 0.33333333, 0.5       ]))
    """
    certainty, loss = as_tensor(confidence), as_tensor(wrong)
    if certainty.ndim != 1 or certainty.shape != loss.shape or not len(loss):
        raise ValueError(
            f"confidence and wrong must be [N] with N at least 1, found {list(certainty.shape)} and {list(loss.shape)}"
        )
    certainty, loss = certainty.double(), loss.to(certainty.device).double()
    if certainty.isnan().any() or loss.isnan().any():
        raise ValueError("confidence and wrong must be numbers, found NaN")
    values, group = certainty.unique(return_inverse=True)
    count = torch.zeros_like(values).index_add_(0, group, torch.ones_like(loss))
    mean = torch.zeros_like(values).index_add_(0, group, loss) / count
    ordered = mean[group[certainty.argsort(descending=True)]]
    answers = torch.arange(1, len(loss) + 1, dtype=torch.float64, device=loss.device)
    coverage, risk = answers / len(loss), ordered.cumsum(0) / answers
    if isinstance(confidence, Tensor):
        return coverage, risk
    return np.asarray(coverage), np.asarray(risk)


def aurc(confidence: Array, wrong: Array) -> float:
    """Return the area under the curve of risk over coverage, the mean of its N risks (Geifman & El-Yaniv 2017).

    See https://arxiv.org/abs/1705.08500. Smaller is better; for a confidence that says nothing it is the mean loss.

    Args:
        confidence: As for `risk_coverage`.
        wrong: As for `risk_coverage`.

    Raises:
        ValueError: As `risk_coverage`.

    >>> round(aurc([0.9, 0.8, 0.7, 0.6], [0, 0, 1, 1]), 6)  # (0 + 0 + 1/3 + 1/2) / 4
    0.208333
    """
    return float(risk_coverage(confidence, wrong)[1].mean())
