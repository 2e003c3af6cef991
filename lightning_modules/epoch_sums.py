"""Sums of the loss and of the metrics over an epoch, which cost a training step next to nothing."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from .label_checks import label_errors
from .loss import dominant
from .metrics import Metric

_HELD = 2**16  # logits: 65 batches of 100 examples of 10 classes, a quarter of a megabyte


class EpochSums:
    """Sums of the loss and of metrics over the examples of an epoch, on the device of the first batch.

    The logits of small batches are kept on the device, up to a fixed number, and measured together: a metric of a
    thousand rows costs little more than one of a hundred. No value is read back before the end of the epoch, so that a
    GPU is never waited for. Sums are float64 where the device supports it (Apple's GPU does not), so that rounding does
    not grow with the epoch's length.

    Args:
        metrics: Functions of logits and labels that give one value an example, by name.
        loss: Whether the batches come with a loss.

    >>> sums = EpochSums({"correct": lambda logits, labels: logits.argmax(1) == labels}, loss=True)
    >>> sums.add(torch.eye(2), torch.tensor([0, 0]), torch.tensor(1.5))
    >>> sums.add(torch.eye(2), torch.tensor([0, 1]), torch.tensor(0.5))
    >>> sums.means(sums.vector("cpu"))
    {'loss': 1.0, 'correct': 0.75}
    """

    def __init__(self, metrics: Mapping[str, Metric], loss: bool = False) -> None:
        self.metrics = metrics
        self.names = (["loss"] if loss else []) + list(metrics)
        self._kind: tuple[Any, ...] = ()  # of the logits that are held: shape of a row, dtype, device
        self._logits = self._labels = torch.empty(0)
        self.reset()

    def reset(self) -> None:
        """Restart from zero."""
        self.count = 0
        self._held = 0
        self._sums: Tensor | None = None

    def add(self, logits: Tensor, labels: Tensor, loss: Tensor | None = None, is_sum: bool = False) -> None:
        """Add one batch.

        Args:
            logits: Detached, `[N, K]`.
            labels: `[N]`, or probabilities `[N, K]`, of which the metrics get the largest.
            loss: Mean over the batch, detached and 0-d, if the sums have a loss.
            is_sum: Whether it is the sum over the batch instead.
        """
        labels = dominant(labels)
        size = labels.shape[0]
        if self._sums is None:
            self._sums = _zeros(len(self.names), logits.device)
        if loss is not None:
            self._sums[0].add_(loss, alpha=1 if is_sum else size)
        self.count += size
        if logits.numel() > _HELD // 2:
            self._measure(logits, labels)
        else:
            self._hold(logits, labels)

    def vector(self, device: torch.device | str) -> Tensor:
        """Return the sums and the count as a tensor `[len(names) + 1]`, which can be summed over processes."""
        self._measure_held()
        vector = _zeros(len(self.names) + 1, torch.device(device))
        if self._sums is not None:
            vector[:-1] = self._sums
        vector[-1] = self.count
        return vector

    def load(self, vector: Tensor) -> None:
        """Continue from the result of `vector`."""
        self._sums, self.count = vector[:-1].clone(), int(vector[-1])

    def means(self, vector: Tensor) -> dict[str, float]:
        """Divide each sum in the result of `vector` by the count; return {} if the count is 0."""
        *sums, count = vector.tolist()
        return {name: value / count for name, value in zip(self.names, sums, strict=True)} if count else {}

    def _hold(self, logits: Tensor, labels: Tensor) -> None:
        """Copy a batch to where it waits: the tensors themselves are overwritten when a captured graph is replayed."""
        kind = logits.shape[1:], logits.dtype, logits.device
        size = labels.shape[0]
        end = self._held + size
        if kind != self._kind or end > self._logits.shape[0]:
            self._measure_held()
            end = size
            if kind != self._kind:
                rows = _HELD // logits.shape[1]
                self._logits, self._labels = logits.new_empty(rows, logits.shape[1]), labels.new_empty(rows)
                self._kind = kind
        self._logits[self._held : end] = logits
        self._labels[self._held : end] = labels
        self._held = end

    def _measure_held(self) -> None:
        held, self._held = self._held, 0
        if held:
            self._measure(self._logits[:held], self._labels[:held])

    def _measure(self, logits: Tensor, labels: Tensor) -> None:
        if not self.metrics or self._sums is None:
            return
        with label_errors(labels, logits.shape[1]):
            values = [cast(Tensor, metric(logits, labels)) for metric in self.metrics.values()]
        dtype = self._sums.dtype
        self._sums[-len(values) :] += torch.stack([value.sum(dtype=dtype) for value in values])


def _zeros(size: int, device: torch.device) -> Tensor:
    return torch.zeros(size, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
