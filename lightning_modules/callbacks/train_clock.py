"""How long a training and its test take, without what prepares them."""

import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback


class TrainClock(Callback):
    """Measures the seconds of a training, and of a test, on the device.

    Inside the clock of a training is what happens from its first hook `on_train_start` to `on_train_end`: weights that
    are computed from the data, batches and their augmentation, steps, validation, logging, and checkpoints written on
    the way. Inside that of a test are its batches (and their other views, with test-time augmentation) and metrics.
    Outside are reading and decoding, moving the set to the device, building the network and the optimizer, loading the
    tested checkpoint, and, after a warm-up, compilation. The device is waited for at both ends of each interval only.

    Attributes:
        train_seconds: Seconds of training so far, including the time before a resume.
        test_seconds: Seconds of the last test.

    >>> TrainClock().train_seconds
    0.0
    """

    def __init__(self) -> None:
        self.train_seconds = self.test_seconds = 0.0
        self._started: float | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start."""
        self._started = _now(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop."""
        if self._started is not None:
            self.train_seconds, self._started = self.train_seconds + _now(trainer) - self._started, None

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start."""
        self._started = _now(trainer)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop."""
        if self._started is not None:
            self.test_seconds, self._started = _now(trainer) - self._started, None

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds so far."""
        running = 0.0 if self._started is None else time.perf_counter() - self._started
        return {"train_seconds": self.train_seconds + running}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue."""
        self.train_seconds = state_dict["train_seconds"]


def _now(trainer: pl.Trainer) -> float:
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.synchronize(trainer.strategy.root_device)
    return time.perf_counter()
