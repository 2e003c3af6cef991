"""Labels that a loader makes on a GPU: checked there, since a label without a logit would end in a device assertion."""

from typing import Any

import torch
from torch import Tensor

from .label_checks import IGNORED, label_error

DEVICES = {"cuda"}
"""Device types that are not waited for."""
EVERY = 50
"""Batches after which what was found is sent to the host."""


class DeviceLabels:
    """Leaves labels without a logit out of the loss, and finds them without waiting for the device.

    What was found is sent to the host every so many batches, and read when it has come; `report` waits for it. The
    batches in between are trained without the bad labels' examples.

    Args:
        num_classes: Number of logits.

    >>> labels = DeviceLabels(3)
    >>> labels(torch.tensor([0, 3, -100])).tolist()
    [0, -100, -100]
    >>> labels.report()
    Traceback (most recent call last):
    ValueError: labels must be below 3, the number of logits, found labels from 0 to 3: set num_classes (now 3) to ...
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._calls = 0
        self._ends: Tensor | None = None  # int64 [2] on the device: the largest label, and less the smallest one
        self._sent: Tensor | None = None  # the same on the host
        self._event: Any = None  # after which it has come

    def __call__(self, labels: Tensor) -> Tensor:
        """Return int64 labels `[N]`, -100 in place of those without a logit.

        Raises:
            ValueError: If labels of batches before had none, as soon as that is known.
        """
        labels = labels.long()
        if not labels.numel():
            return labels
        if self._event is not None and self._event.query():
            self._event = None
            self._refuse()
        given = labels.masked_fill(labels == IGNORED, 0)
        low, high = given.aminmax()
        ends = torch.stack([high, -low])
        self._ends = ends if self._ends is None else torch.maximum(self._ends, ends)
        self._calls += 1
        if self._calls % EVERY == 0 and self._event is None:
            self._send(self._ends)
        return labels.masked_fill((given < 0) | (given >= self.num_classes), IGNORED)

    def report(self) -> None:
        """Wait for the device.

        Raises:
            ValueError: If a label so far had no logit.
        """
        ends, self._ends, self._event = self._ends, None, None
        if ends is not None:
            self._sent = ends.cpu()
            self._refuse()

    def _send(self, ends: Tensor) -> None:
        if ends.device.type not in DEVICES:
            self._sent = ends
            self._refuse()
            return
        if self._sent is None or not self._sent.is_pinned():
            self._sent = torch.empty(2, dtype=torch.int64, device="cpu", pin_memory=True)
        self._sent.copy_(ends, non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record(torch.cuda.current_stream(ends.device))

    def _refuse(self) -> None:
        assert self._sent is not None
        high, low = self._sent[0], -self._sent[1]
        if low < 0 or high >= self.num_classes:
            raise label_error(torch.stack([low, high]), self.num_classes)
