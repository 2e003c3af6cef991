"""A logging interval that a short run reaches."""

import math
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class FitLogInterval(Callback):
    """Sets `trainer.log_every_n_steps` to no more than the optimizer steps of an epoch, or of the whole training.

    With more, Lightning logs nothing in an epoch, or never. A resumed training keeps the interval that it had.

    Args:
        longest: The interval of longer epochs, which is also Lightning's default.

    Attributes:
        every: The interval; None before training.

    >>> FitLogInterval().longest
    50
    """

    def __init__(self, longest: int = 50) -> None:
        if longest < 1:
            raise ValueError(f"longest must be at least 1, found {longest}")
        self.longest = longest
        self.every: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the interval, before anything logs."""
        if vars(trainer)["log_every_n_steps"] == 0:  # barebones
            return
        batches, steps = trainer.num_training_batches, [self.every or self.longest]
        if math.isfinite(batches):  # a loader may have no length
            steps.append(math.ceil(batches / trainer.accumulate_grad_batches))
        if self.every is None and trainer.max_steps > 0:
            steps.append(trainer.max_steps)
        self.every = max(1, min(steps))
        vars(trainer)["log_every_n_steps"] = self.every  # not declared by its class: one of its connectors sets it

    def state_dict(self) -> dict[str, Any]:
        """Return the interval."""
        return {"every": self.every}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the interval of the checkpoint."""
        self.every = state_dict["every"]
