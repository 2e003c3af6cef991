"""The predictions for the test split, kept compactly for statistics over the examples."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor

LARGEST = 5_000_000
"""Most log-probabilities that are kept, about 10 MB; of a larger test split only the predicted classes are."""


class KeepPredictions(Callback):
    """Writes label, predicted class and log-probabilities of every test example to an `.npz` file, in their order.

    Classes take one byte each (two or four where there are many classes), log-probabilities two, before compression:
    0.2 MB for 10,000 examples of 10 classes. As logarithms they keep three digits at every size.

    Args:
        path: The file; it is replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parts: list[tuple[Tensor, Tensor]] = []

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start with nothing kept.

        Raises:
            ValueError: If several processes test, each of which has only a part of the examples.
        """
        if trainer.world_size > 1:
            raise ValueError(f"--keep_predictions needs one device, found {trainer.world_size} processes")
        self._parts = []

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the batch's log-probabilities and labels."""
        self._parts.append((outputs["logits"].log_softmax(1).cpu(), outputs["labels"].cpu()))

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file."""
        log_probabilities = np.concatenate([part.numpy() for part, _ in self._parts])
        labels = np.concatenate([part.numpy() for _, part in self._parts])
        whole = np.min_scalar_type(log_probabilities.shape[1] - 1)
        arrays = {"labels": labels.astype(whole), "predicted": log_probabilities.argmax(1).astype(whole)}
        if log_probabilities.size <= LARGEST:
            lowest = float(np.finfo(np.float16).min)
            arrays["log_probabilities"] = log_probabilities.clip(lowest, 0).astype(np.float16)
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        with open(partial, "wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(partial, self.path)
