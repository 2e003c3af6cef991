"""Labels without a logit, which end in one line: on a GPU they would end in an assertion that loses all its state."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pytorch_lightning import LightningModule
from torch import Tensor

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


def check_resident_labels(loader: Any, num_classes: int | None) -> None:
    """Refuse labels of a loader of a `TensorDataset` on a GPU, once, before training.

    Raises:
        ValueError: As `check_labels`.
    """
    tensors: Any = getattr(getattr(loader, "dataset", None), "tensors", ())
    if num_classes is not None and len(tensors) > 1 and not getattr(tensors[1], "is_cpu", True):
        check_labels(tensors[1].cpu(), num_classes)


class LabelChecks(LightningModule):
    """Checks the labels of each batch before it leaves the CPU, so that nothing waits for the device.

    Batches that a loader makes on the device are not looked at: for our data modules and a `TensorDataset` all labels
    are checked at the start.
    """

    num_classes: int

    # A private method of Lightning's, because it calls the public hook of the same name in a data module only if the
    # module has none: ours would take the place of somebody's own.
    def _on_before_batch_transfer(self, batch: Any, dataloader_idx: int = 0) -> Any:
        """Return the batch that is to leave the CPU.

        Raises:
            ValueError: If the module is on a GPU, the batch on the CPU, and a label of it has no logit.
        """
        batch = super()._on_before_batch_transfer(batch, dataloader_idx)
        evaluates = self.device.type != "cpu" and not self.trainer.predicting  # where an unknown label may be -1
        if evaluates and isinstance(batch, Sequence) and len(batch) > 1:
            labels = batch[1]
            if isinstance(labels, Tensor) and labels.is_cpu:
                check_labels(labels, self.num_classes)
        return batch
