"""The cross-entropy of a batch, in at least single precision."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .label_checks import label_errors


def classification_loss(logits: Tensor, labels: Tensor, label_smoothing: float, reduction: str) -> Tensor:
    """Return the cross-entropy of int64 labels `[N]`, or of probabilities `[N, K]`: its mean or its sum over a batch.

    Raises:
        ValueError: If a label has no logit, on a CPU; if probabilities have another shape than the logits.

    >>> classification_loss(torch.zeros(3, 2), torch.tensor([0, 1, 1]), 0.2, "sum")
    tensor(2.0794)
    """
    if labels.ndim == 2 and labels.shape != logits.shape:
        raise ValueError(
            f"labels {[*labels.shape]} that are probabilities must have the shape of the logits, {[*logits.shape]}: "
            f"set num_classes (now {logits.shape[1]}) to the data's"
        )
    with label_errors(labels, logits.shape[1]):
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction=reduction)


def dominant(labels: Tensor) -> Tensor:
    """Return the class of the largest probability in labels `[N, K]`, and labels `[N]` as they are.

    >>> dominant(torch.tensor([[0.3, 0.7]])), dominant(torch.tensor([4]))
    (tensor([1]), tensor([4]))
    """
    return labels.argmax(1) if labels.ndim == 2 else labels


def at_least_float32(logits: Tensor) -> Tensor:
    """Return logits in float32 if they are in half precision, and otherwise as they are."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
