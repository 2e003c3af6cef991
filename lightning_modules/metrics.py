"""The classifier's metrics: functions of logits and labels that give one value an example.

This is the place to add one: a function, its line in `METRICS`, and in `HIGHER_IS_BETTER` its direction.
`ImageClassifier` then logs its mean over the examples of an epoch as `train/NAME`, `val/NAME` and `test/NAME`, and
`compare.py --metric` knows it.
"""

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from .six_views import SUFFIX

Metric: TypeAlias = Callable[[Tensor, Tensor], Tensor | None]
"""From logits `[N, K]` (float32 or float64) and int64 labels `[N]` to `[N]`; None if not defined for K classes."""


def nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the negative log-likelihood of the labels, in nats: the cross-entropy without label smoothing."""
    return F.cross_entropy(logits, labels, reduction="none")


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return whether the class with the largest logit is the label."""
    return logits.argmax(1) == labels


def top5_accuracy(logits: Tensor, labels: Tensor) -> Tensor | None:
    """Return whether the label is among the five largest logits; None for at most five classes.

    Of equal logits the first counts as the larger one, as for `accuracy`.
    """
    num_classes = logits.shape[1]
    if num_classes <= 5:
        return None
    label = labels[:, None]
    own = logits.gather(1, label.clamp(0, num_classes - 1))
    # Counting the classes ahead takes an eighth of the time of `topk`, which sorts each row. NaN is never a hit.
    ahead = ~(logits <= own) | ((logits == own) & (torch.arange(num_classes, device=logits.device) < label))
    return (ahead.sum(1) < 5) & (labels >= 0)


METRICS: dict[str, Metric] = {"nll": nll, "accuracy": accuracy, "top5_accuracy": top5_accuracy}
HIGHER_IS_BETTER = {"loss": False, "nll": False, "accuracy": True, "top5_accuracy": True, "ece": False}
"""The direction of each metric, of the loss, and of the calibration error that a callback of `evaluation` logs."""


def direction(name: str, metrics: Mapping[str, Metric] = METRICS) -> Literal["min", "max"] | None:
    """Return which direction of a logged value is better, or None if that is not known.

    Args:
        name: Name of the value, such as `val/accuracy`.
        metrics: Table of the metrics; a function of it may have an attribute `higher_is_better`, as torchmetrics' have.

    >>> direction("val/accuracy"), direction("val/nll"), direction("test/accuracy_tta"), direction("val/f1")
    ('max', 'min', 'max', None)
    """
    short = name.rpartition("/")[2].removesuffix(SUFFIX)
    higher = getattr(metrics.get(short), "higher_is_better", HIGHER_IS_BETTER.get(short))
    return None if higher is None else "max" if higher else "min"
