"""How good a network's outputs are, as one number that is greater for better."""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Metric = Literal["accuracy", "nll", "r2"] | Callable[[Tensor, Tensor], float]


def choose(metric: Metric | None, outputs: Tensor, labels: Tensor) -> tuple[str, Callable[[Tensor, Tensor], float]]:
    """Return a metric's name and function, or raise a ValueError where it does not fit the outputs and labels.

    Args:
        metric: ``"accuracy"``, ``"nll"`` (negative, so that greater is better), ``"r2"``, a function of outputs and
            labels, or None for accuracy where the labels are integers and R2 elsewhere.
        outputs: ``[N, K]`` of a network.
        labels: ``[N]``.
    """
    if callable(metric):
        function = metric
        return getattr(metric, "__name__", type(metric).__name__), lambda outputs, labels: float(
            function(outputs, labels)
        )
    integer = not labels.is_floating_point()
    metric = metric or ("accuracy" if integer else "r2")
    if metric == "r2":
        if outputs.shape[1] != 1:
            raise ValueError(f"metric 'r2' needs one output for each example, got {outputs.shape[1]}")
        if bool((labels == labels[0]).all()):
            raise ValueError(f"metric 'r2' needs labels that differ, got {float(labels[0])} only")
        return metric, _r2
    if metric not in ("accuracy", "nll"):
        raise ValueError(f"metric must be 'accuracy', 'nll', 'r2' or a function, got {metric!r}")
    if not integer:
        raise ValueError(f"metric {metric!r} needs integer labels, got {labels.dtype}")
    classes = max(outputs.shape[1], 2)  # one output is the logit of the second of two classes
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        found = f"{int(labels.min())}..{int(labels.max())}"
        raise ValueError(f"labels must lie in 0..{classes - 1}, got {found} (for a regression give metric='r2')")
    return metric, _accuracy if metric == "accuracy" else _negative_nll


def _r2(outputs: Tensor, labels: Tensor) -> float:
    truth, predicted = labels.double(), outputs[:, 0].double()
    return float(1 - (truth - predicted).square().sum() / (truth - truth.mean()).square().sum())


def _accuracy(outputs: Tensor, labels: Tensor) -> float:
    predicted = outputs.argmax(dim=1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).long()
    return float((predicted == labels).double().mean())


def _negative_nll(outputs: Tensor, labels: Tensor) -> float:
    if outputs.shape[1] == 1:
        return -float(F.binary_cross_entropy_with_logits(outputs[:, 0].double(), labels.double()))
    return -float(F.cross_entropy(outputs.double(), labels.long()))
