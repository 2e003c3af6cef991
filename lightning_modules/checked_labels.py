"""A module that checks the labels of its batches, wherever they come from, without waiting for a device."""

from collections.abc import Sequence
from typing import Any

from pytorch_lightning import LightningModule
from pytorch_lightning.core.hooks import DataHooks
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor

from .device_labels import DEVICES, DeviceLabels
from .label_checks import check_labels, check_resident_labels


class LabelChecks(LightningModule):
    """Checks labels without waiting for the device.

    Those of a batch on the CPU are checked before it leaves the CPU, and all of our data modules and of a
    `TensorDataset` on a GPU at the start. Others that are on a GPU when they are used (made there by a loader, or
    changed there by a hook of a data module) are checked there: see `DeviceLabels`.
    """

    num_classes: int

    def __init__(self) -> None:
        super().__init__()
        self._known: Any = None  # the training loader whose labels have been checked
        self._from_host: dict[bool, bool] = {}  # whether the last batch came from the CPU: of training, of evaluation
        self._on_device: DeviceLabels | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied and pickled, without a loader and what it has shown."""
        return super().__getstate__() | {"_known": None, "_from_host": {}, "_on_device": None}

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
            is_there = isinstance(labels, Tensor) and labels.is_cpu
            self._from_host[self.trainer.training] = is_there
            if is_there:
                check_labels(labels, self.num_classes)
        return batch

    def know_labels(self, loader: Any) -> None:
        """Check the labels of the training loader if it holds them on a GPU."""
        self._known = loader if check_resident_labels(loader, self.num_classes) else None

    def checked(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and labels, -100 in place of labels on a GPU that have no logit and are not known yet.

        Raises:
            ValueError: If labels of batches before had none.
        """
        if labels.device.type not in DEVICES or labels.is_floating_point() or self._are_known():
            return images, labels
        if self._on_device is None:
            self._on_device = DeviceLabels(self.num_classes)
        return images, self._on_device(labels)

    def report_labels(self) -> None:
        """Raise a ValueError if a label on a GPU had no logit, after waiting for the device."""
        if self._on_device is not None:
            self._on_device.report()

    def _are_known(self) -> bool:
        try:
            trainer: Any = self.trainer
        except RuntimeError:  # of a module without one
            return False
        training: bool = trainer.training
        from_host = self._from_host.get(training, False)
        if not from_host and not (training and self._known is not None and trainer.train_dataloader is self._known):
            return False
        owners = (self, vars(trainer)["datamodule"])
        return not any(is_overridden("on_after_batch_transfer", one, DataHooks) for one in owners if one is not None)
