"""Ending on SIGTERM or Ctrl-C where a training can be resumed from exactly."""

import os
import signal
import threading
from functools import partial
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

NOTES = {
    signal.SIGTERM: b"SIGTERM: the training is saved after this step\n",
    signal.SIGINT: b"Ctrl-C: the training is saved after this step (again: stop at once)\n",
}


class StopSignals(Callback):
    """Ends the Trainer's work on SIGTERM (with `SIGTERMException`) or on Ctrl-C (with `KeyboardInterrupt`).

    That happens at once, unless `defers` is set, as `LastCheckpoint` does while it trains. Then the signal is only
    noted, and `agreed` returns it when every process knows it, so that all end after the same batch. A second Ctrl-C
    ends at once.

    Lightning's own handler communicates inside the signal handler, which hangs while another process is elsewhere, and
    ends a training where a resume repeats or skips something. This one replaces it until the Trainer restores the
    handlers that it has found. A signal that is ignored stays ignored.

    Attributes:
        noted: Number of the signal that was received, or 0.
        defers: Whether signals are only noted.

    >>> StopSignals().noted
    0
    """

    noted = 0
    defers = False
    _group: Any = None  # of the processes, to agree without the device
    _asked: tuple[Any, Tensor] | None = None  # the exchange under way, and its result

    def listen(self, trainer: pl.Trainer) -> None:
        """Replace the handlers of both signals, once Lightning has set its own."""
        if threading.current_thread() is not threading.main_thread():
            return  # where no handler can be set
        for number in NOTES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, partial(self._note, trainer))

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over."""
        self.listen(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over."""
        self.listen(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over."""
        self.listen(trainer)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over."""
        self.listen(trainer)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over."""
        self.listen(trainer)

    def open(self, trainer: pl.Trainer) -> None:
        """Note signals from now on; every process must call this."""
        if trainer.world_size > 1 and torch.distributed.is_initialized() and self._group is None:
            self._group = torch.distributed.new_group(backend="gloo")
        self.defers = True

    def close(self) -> None:
        """End at once from now on; every process must call this, and then knows what any of them has noted."""
        if self._group is not None:
            self.agreed()
            self.noted, self._asked = self.agreed(), None
        self.defers = False

    def agreed(self) -> int:
        """Return the signal that every process knows of, or 0; every process must call this equally often.

        With several processes it is what was noted at the call before, so that nothing waits for the exchange.
        """
        if self._group is None:
            return self.noted
        known = 0
        if self._asked is not None:
            work, result = self._asked
            work.wait()
            known = int(result)
        wish = torch.tensor(self.noted)
        self._asked = (
            torch.distributed.all_reduce(wish, torch.distributed.ReduceOp.MAX, self._group, async_op=True),
            wish,
        )
        return known

    def end(self, number: int) -> NoReturn:
        """Raise the exception of a signal."""
        raise SIGTERMException if number == signal.SIGTERM else KeyboardInterrupt

    def _note(self, trainer: pl.Trainer, number: int, frame: Any) -> None:
        again, self.noted = self.noted, max(self.noted, number)
        if self.defers and not (again and number == signal.SIGINT):
            if not again and trainer.is_global_zero:
                os.write(2, NOTES[signal.Signals(number)])  # print is not safe here
            return
        launcher = trainer.strategy.launcher
        if launcher is not None and number == signal.SIGTERM:  # Ctrl-C reaches every process of a terminal
            launcher.kill(number)
        self.end(number)
