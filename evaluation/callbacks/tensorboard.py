"""What the callbacks share: the outputs that they read, and the figures that they give to TensorBoard."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor


def logits_and_labels(outputs: Any, callback: pl.Callback) -> tuple[Tensor, Tensor]:
    """Return what a step of ``callback``'s module gave, or raise a ValueError."""
    if not isinstance(outputs, dict) or not {"logits", "labels"} <= outputs.keys():
        found = f"a dictionary of {sorted(outputs)}" if isinstance(outputs, dict) else type(outputs).__name__
        name = type(callback).__name__
        raise ValueError(f'{name} needs steps that return a dictionary with "logits" and "labels", got {found}')
    return outputs["logits"].detach(), outputs["labels"].long()


def draws_now(trainer: pl.Trainer, every_n_epochs: int) -> bool:
    """Whether a figure that is drawn every n-th epoch, and at the last one, is due in this validation."""
    if trainer.sanity_checking or not any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
        return False
    epoch = trainer.current_epoch + 1
    last = epoch == trainer.max_epochs or trainer.global_step == trainer.max_steps
    return last or epoch % every_n_epochs == 0 or trainer.state.fn != TrainerFn.FITTING


def add_images(trainer: pl.Trainer, pictures: dict[str, npt.NDArray[np.uint8]]) -> None:
    """Give pictures ``[height, width, 3]`` to every TensorBoardLogger of the trainer, at its global step."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            for tag, picture in pictures.items():
                logger.experiment.add_image(tag, picture, trainer.global_step, dataformats="HWC")


def check_count(name: str, value: Any) -> int:
    """Return a positive integer, or raise a ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return value
