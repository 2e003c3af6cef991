"""Labels without a logit, which end in one line: on a GPU they would end in an assertion that loses all its state."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.utils.data import default_collate, default_convert

IGNORED = -100
"""The label that torch's cross-entropy leaves out."""


def label_error(labels: Tensor, num_classes: int) -> ValueError:
    """Return the error about labels, some of which have no logit.

    >>> import torch
    >>> str(label_error(torch.tensor([-1, 2]), 3))
    'labels must be at least 0, found labels from -1 to 2: number the classes from 0'
    """
    low, high = int(labels.min()), int(labels.max())
    if high < num_classes:
        return ValueError(f"labels must be at least 0, found labels from {low} to {high}: number the classes from 0")
    return ValueError(
        f"labels must be below {num_classes}, the number of logits, found labels from {low} to {high}: "
        f"set num_classes (now {num_classes}) to the data's"
    )


@contextmanager
def label_errors(labels: Tensor, num_classes: int) -> Iterator[None]:
    """Explain torch's own error about a label without a logit, which the CPU raises."""
    try:
        yield
    except IndexError:
        raise label_error(labels, num_classes) from None


def check_labels(labels: Any, num_classes: int) -> None:
    """Refuse labels without a logit; anything but a tensor of integers is left to the loss.

    Args:
        labels: int64 `[N]`, on the CPU.
        num_classes: Number of logits.

    Raises:
        ValueError: If a label is below 0 (and not -100, which the loss leaves out) or not below `num_classes`.

    >>> import torch
    >>> check_labels(torch.tensor([0, 2, -100]), 3)
    """
    if not isinstance(labels, Tensor) or labels.is_floating_point() or not labels.numel():
        return
    low, high = (int(end) for end in labels.aminmax())
    if high >= num_classes or (low < 0 and bool(((labels < 0) & (labels != IGNORED)).any())):
        raise label_error(labels, num_classes)


def check_resident_labels(loader: Any, num_classes: int | None) -> bool:
    """Refuse labels of a loader that holds all of them on a GPU, once, before training.

    Returns:
        Whether it is such a loader: of a `TensorDataset`, or of our data modules.

    Raises:
        ValueError: As `check_labels`.
    """
    labels = _resident_labels(loader)
    if num_classes is None or labels is None:
        return False
    check_labels(labels.cpu(), num_classes)
    return True


def _resident_labels(loader: Any) -> Tensor | None:
    """Return the labels on a GPU that all batches of a loader are made of, or None."""
    if isinstance(indices := getattr(loader, "indices", None), Tensor):
        labels = getattr(loader, "labels", None)
        labels = labels[indices.to(labels.device)] if isinstance(labels, Tensor) else None
    else:
        plain = getattr(loader, "collate_fn", None) in (default_collate, default_convert)
        labels = getattr(getattr(loader, "dataset", None), "tensors", (None, None))[1:2] if plain else ()
        labels = labels[0] if labels else None
    return labels if isinstance(labels, Tensor) and not labels.is_cpu else None
