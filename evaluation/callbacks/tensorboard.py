"""A base of the callbacks that use the outputs of steps, and images for TensorBoard."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

SPLITS = ("val", "test")
"""The splits of the first and of the second validation loader."""


class StepCallback(pl.Callback, ABC):
    """Base of the callbacks that use the batches of an evaluation, except those of the sanity check."""

    @abstractmethod
    def _add(self, outputs: Any, batch: Any, split: int) -> None:
        """Use a batch of a split, an index of `SPLITS`, and the outputs of its step."""

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Use a batch of the first two validation loaders, or of the first test loader."""
        split = dataloader_idx + SPLITS.index("test") * trainer.testing
        if not trainer.sanity_checking and split < len(SPLITS):
            self._add(outputs, batch, split)

    on_test_batch_end = on_validation_batch_end

    def _answers(self, outputs: Any) -> tuple[Tensor, Tensor]:
        """Return the logits and labels among a step's outputs, or raise a ValueError."""
        if not isinstance(outputs, dict) or not {"logits", "labels"} <= outputs.keys():
            kind = f"a dictionary of {sorted(outputs)}" if isinstance(outputs, dict) else type(outputs).__name__
            name = type(self).__name__
            raise ValueError(f'{name} needs steps that return a dictionary with "logits" and "labels", found {kind}')
        return outputs["logits"].detach(), outputs["labels"].long()


def draws_now(trainer: pl.Trainer, every_n_epochs: int) -> bool:
    """Return whether a figure that is drawn every n-th epoch, and in the last one, is due in this validation."""
    if trainer.sanity_checking or not any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
        return False
    epoch = trainer.current_epoch + 1
    last = epoch == trainer.max_epochs or trainer.global_step == trainer.max_steps
    return last or epoch % every_n_epochs == 0 or trainer.state.fn != TrainerFn.FITTING


def add_images(trainer: pl.Trainer, pictures: dict[str, npt.NDArray[np.uint8]]) -> None:
    """Write pictures `[height, width, 3]` to every TensorBoardLogger of the trainer, at its global step."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            for tag, picture in pictures.items():
                logger.experiment.add_image(tag, picture, trainer.global_step, dataformats="HWC")
