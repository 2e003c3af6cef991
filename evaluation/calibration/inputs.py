"""What the metrics accept: predictions and labels as tensors or arrays, checked, with errors of one line."""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Norm = Literal["l1", "l2", "max"]
Strategy = Literal["uniform", "quantile"]


def check_options(n_bins: int, norm: str, strategy: str) -> None:
    """Raise a ValueError for an option that :func:`calibration_error` does not know."""
    if isinstance(n_bins, bool) or not isinstance(n_bins, int | np.integer) or n_bins < 1:
        raise ValueError(f"n_bins must be a positive integer, got {n_bins!r}")
    if norm not in get_args(Norm):
        raise ValueError(f"norm must be one of {', '.join(get_args(Norm))}, got {norm!r}")
    if strategy not in get_args(Strategy):
        raise ValueError(f"strategy must be one of {', '.join(get_args(Strategy))}, got {strategy!r}")


def _check_inputs(preds: Tensor, target: Tensor, from_logits: bool) -> None:
    """Raise a ValueError, in one line, for predictions and labels that make no sense together."""
    if preds.ndim not in (1, 2) or not preds.is_floating_point():
        raise ValueError(f"preds must be floating point [N, K] or [N], got {preds.dtype} {list(preds.shape)}")
    if target.is_floating_point() or target.is_complex() or target.shape != preds.shape[:1]:
        wanted, found = f"integers [{len(preds)}] for preds {list(preds.shape)}", f"{target.dtype} {list(target.shape)}"
        raise ValueError(f"target must be {wanted}, got {found}")
    if preds.numel() == 0:
        raise ValueError(f"preds holds no value: its shape is {list(preds.shape)}")
    if preds.ndim == 2 and preds.shape[1] == 1:
        raise ValueError("preds has one column: give [N] for a binary classifier, or a column for each class")
    classes = preds.shape[1] if preds.ndim == 2 else 2
    first, last = (int(value) for value in target.aminmax())
    if first < 0 or last >= classes:
        raise ValueError(f"target must lie in 0..{classes - 1} for {classes} classes, got values {first}..{last}")
    low, high = (float(value) for value in preds.aminmax())
    if low != low or high == float("inf"):
        raise ValueError(f"preds must be finite, got {'NaN' if low != low else 'inf'}")
    if from_logits:
        if preds.ndim == 2 and low == -float("inf") and bool((preds == low).all(dim=1).any()):
            raise ValueError("preds must leave each row a finite logit, got a row of -inf only")
    else:
        _check_probabilities(preds, low, high)


def _check_probabilities(preds: Tensor, low: float, high: float) -> None:
    slack = 2 * torch.finfo(preds.dtype).eps  # what averaging probabilities may leave above 1
    if low < -slack or high > 1 + slack:
        found = low if low < -slack else high
        raise ValueError(f"preds must be probabilities in [0, 1], got {found:.6g}; for logits say from_logits=True")
    if preds.ndim == 2:
        tolerance = 1e-3 if preds.dtype in (torch.float32, torch.float64) else 1e-2
        wide = preds if preds.dtype == torch.float64 else preds.float()
        error, row = (wide.sum(dim=1) - 1).abs().max(dim=0)
        if error > tolerance:
            total = float(wide[row].sum())
            raise ValueError(f"preds must have rows that sum to 1, got {total:.6g} in row {int(row)}")


def as_tensor(values: Tensor | npt.ArrayLike) -> Tensor:
    """Return a tensor without a gradient, or raise a ValueError."""
    if isinstance(values, Tensor):
        return values.detach()
    array = np.require(values, requirements=["C", "W"])
    if array.dtype.kind not in "fiub":
        raise ValueError(f"expected an array of numbers, got one of {array.dtype}")
    return torch.from_numpy(array)


def prepare(preds: Tensor | npt.ArrayLike, target: Tensor | npt.ArrayLike, from_logits: bool) -> tuple[Tensor, Tensor]:
    """Return predictions and int64 labels as tensors on the device of the predictions, or raise a ValueError."""
    scores = as_tensor(preds)
    labels = as_tensor(target).to(scores.device)
    labels = labels if labels.is_floating_point() or labels.is_complex() else labels.long()
    _check_inputs(scores, labels, from_logits)
    return scores, labels


def answer(value: Tensor, preds: Tensor | npt.ArrayLike) -> Tensor | float:
    """Return a scalar as what the predictions were: a tensor for a tensor, else a float."""
    return value if isinstance(preds, Tensor) else value.item()
