"""The inputs of all metrics: predictions and labels, checked once, and the options that metrics share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..checks import Array, as_tensor, check_count

Norm = Literal["l1", "l2", "max"]
Strategy = Literal["uniform", "quantile"]

_CHUNK = 1 << 18  # values: few enough for the cache, enough for torch to use all threads
_CHUNK_ON_DEVICE = 1 << 24


@dataclass(frozen=True)
class Predictions:
    """The predictions of a classifier and the labels, on one device, as `prepare` has checked them.

    Attributes:
        scores: `[N, K]`, or `[N]` for a binary classifier; floating point.
        labels: int64 `[N]`.
        from_logits: Whether the scores are logits rather than probabilities.
    """

    scores: Tensor
    labels: Tensor
    from_logits: bool

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> "Predictions":
        return Predictions(self.scores[index], self.labels[index], self.from_logits)

    def wide(self) -> Tensor:
        """Return the scores in the dtype of sums."""
        return self.scores.to(accumulation_dtype(self.scores.device))

    def columns(self) -> tuple[Tensor, Tensor]:
        """Return two tensors `[N, C]` in the dtype of sums: the probability of each class, and 1 at the label.

        There is one column, for class 1, if the scores are `[N]`.
        """
        p = self.wide()
        if p.ndim == 1:
            return (p.sigmoid() if self.from_logits else p)[:, None], self.labels[:, None].to(p.dtype)
        p = p.softmax(dim=1) if self.from_logits else p
        return p, torch.zeros_like(p).scatter_(1, self.labels[:, None], 1)

    def chunks(self) -> list["Predictions"]:
        """Split the samples, so that float64 temporaries of a chunk need little memory."""
        size = _CHUNK if self.scores.device.type == "cpu" else _CHUNK_ON_DEVICE
        rows = max(1, size // max(1, self.scores[:1].numel()))
        pairs = zip(self.scores.split(rows), self.labels.split(rows), strict=True)
        return [Predictions(scores, labels, self.from_logits) for scores, labels in pairs]

    def sum(self, function: Callable[["Predictions"], Tensor]) -> Tensor:
        """Return the sum of `function` over the chunks."""
        first, *others = self.chunks()
        total = function(first)
        for chunk in others:
            total = total + function(chunk)
        return total

    def mean(self, function: Callable[["Predictions"], Tensor]) -> Tensor:
        """Return the sum of `function` over the chunks, divided by the number of samples."""
        return self.sum(function) / len(self)


def prepare(preds: Array, target: Array, from_logits: bool) -> Predictions:
    """Return checked predictions and labels on the device of the predictions, or raise a ValueError."""
    scores = as_tensor(preds)
    labels = as_tensor(target).to(scores.device)
    _check_shapes(scores, labels)
    labels = labels.long()
    classes = scores.shape[1] if scores.ndim == 2 else 2
    first, last = (int(value) for value in labels.aminmax())
    if first < 0 or last >= classes:
        raise ValueError(f"target must be in 0..{classes - 1} for {classes} classes, found values {first}..{last}")
    _check_values(scores, from_logits)
    return Predictions(scores, labels, from_logits)


def _check_shapes(preds: Tensor, target: Tensor) -> None:
    if preds.ndim not in (1, 2) or not preds.is_floating_point():
        raise ValueError(f"preds must be floating point [N, K] or [N], found {preds.dtype} {list(preds.shape)}")
    if target.is_floating_point() or target.is_complex() or target.shape != preds.shape[:1]:
        wanted = f"integers [{len(preds)}] for preds {list(preds.shape)}"
        raise ValueError(f"target must be {wanted}, found {target.dtype} {list(target.shape)}")
    if preds.numel() == 0:
        raise ValueError(f"preds must hold at least one value, found shape {list(preds.shape)}")
    if preds.ndim == 2 and preds.shape[1] == 1:
        raise ValueError("preds must have a column for each class, or be [N] for a binary classifier; found one column")


def _check_values(preds: Tensor, from_logits: bool) -> None:
    low, high = (float(value) for value in preds.aminmax())
    if low != low or high == float("inf"):
        raise ValueError(f"preds must be finite, found {'NaN' if low != low else 'inf'}")
    if not from_logits:
        _check_probabilities(preds, low, high)
    elif preds.ndim == 2 and low == -float("inf") and bool((preds == low).all(dim=1).any()):
        raise ValueError("preds must have a finite logit in each row, found a row of -inf only")


def _check_probabilities(preds: Tensor, low: float, high: float) -> None:
    slack = 2 * torch.finfo(preds.dtype).eps  # averaging probabilities may round above 1
    if low < -slack or high > 1 + slack:
        outside = low if low < -slack else high
        raise ValueError(f"preds must be probabilities in [0, 1], found {outside:.6g}; for logits set from_logits=True")
    if preds.ndim == 2:
        tolerance = 1e-3 if preds.dtype in (torch.float32, torch.float64) else 1e-2
        wide = preds if preds.dtype == torch.float64 else preds.float()
        error = (wide.sum(dim=1) - 1).abs_()
        if error.amax() > tolerance:
            row = int(error.argmax())
            raise ValueError(f"preds must have rows that sum to 1, found {float(wide[row].sum()):.6g} in row {row}")


def check_options(n_bins: int, norm: str = "l1", strategy: str = "uniform") -> None:
    """Raise a ValueError for options that `calibration_error` does not have."""
    check_count("n_bins", n_bins)
    for name, value, known in (("norm", norm, get_args(Norm)), ("strategy", strategy, get_args(Strategy))):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, found {value!r}")


def check_level(level: float) -> None:
    """Raise a ValueError for a confidence level outside (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, found {level!r}")


def accumulation_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on the devices that have none (Apple's MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64


def like(value: Tensor, preds: Array) -> Tensor | float:
    """Return a scalar tensor if the predictions are a tensor, otherwise a float."""
    return value if isinstance(preds, Tensor) else value.item()
