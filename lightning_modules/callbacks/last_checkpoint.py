"""The checkpoint from which a killed run resumes."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping, StochasticWeightAveraging, WeightAveraging
from pytorch_lightning.plugins.precision import DoublePrecision

from ..runs.random_state import gathered, random_state, restore_random_state
from ..runs.unsaved_state import end_resumed_epoch, restore_unsaved_state, unsaved_state
from .stop_signals import StopSignals


class LastCheckpoint(StopSignals, Checkpoint):
    """Saves one file every `every_n_train_steps` optimizer steps, from which training resumes bit for bit.

    Lightning's ModelCheckpoint can save at a batch that is followed by validation or the end of the epoch; a run
    resumed from there skips both. This one then waits for the next batch. It also saves once before the first step, so
    that a run killed early can be resumed, and once at the end.

    On SIGTERM and Ctrl-C (see `StopSignals`) it saves at the end of the step, of the accumulation window if one is
    open, or in validation, which the resumed run then repeats as a whole. When `max_time` is over it does the
    same, and training ends after it.

    Every checkpoint of the Trainer, not only this one, gets the state that Lightning does not save: that of each rank's
    random number generators (PyTorch, CUDA, numpy, Python), without which dropout differs after a resume, that of
    loggers with a `state_dict` (`CSVLog`), and the metrics that callbacks and schedulers watch. A training that early
    stopping has ended stays ended, unless it gets more patience.

    Args:
        path: The file. It is overwritten, atomically if the Trainer has the plugin `AtomicCheckpointIO`.
        every_n_train_steps: Save interval in optimizer steps (a save can be one step late at the end of an epoch).

    Raises:
        ValueError: If `every_n_train_steps` is less than 1.

    >>> LastCheckpoint("runs/one/checkpoints/last.ckpt", every_n_train_steps=100).every_n_train_steps
    100
    """

    def __init__(self, path: str | Path, every_n_train_steps: int = 200) -> None:
        if every_n_train_steps < 1:
            raise ValueError(f"every_n_train_steps must be at least 1, found {every_n_train_steps}")
        self.path = Path(path)
        self.every_n_train_steps = every_n_train_steps
        self.saved_step = -1  # optimizer step of the newest save or load
        self._seen_step = -1
        self._loaded: dict[str, Any] | None = None
        self._patience: list[tuple[EarlyStopping, int]] = []
        self._stops = False  # whether training stops at the next batch from which it can be resumed
        self._left_epoch = False  # whether it has stopped within an epoch, after a save
        self._averages = False
        self._saves_validation = False
        self._validation: dict[str, Any] | None = None  # what a save during validation needs of its start

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Use rank 0's path on every rank, and float64 weights before a checkpoint of them is loaded."""
        self.path = trainer.strategy.broadcast(self.path)
        if isinstance(trainer.precision_plugin, DoublePrecision):  # Lightning converts them after loading
            pl_module.double()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore generators and loggers on resume; save step 0 otherwise."""
        super().on_train_start(trainer, pl_module)
        if self._loaded is not None:
            restore_random_state(self._loaded["random_states"], trainer.global_rank)
            for logger, state in zip(trainer.loggers, self._loaded["loggers"], strict=False):
                if state is not None and hasattr(logger, "load_state_dict"):
                    logger.load_state_dict(state)
            for stopping, patience in self._patience:  # which Lightning takes from the checkpoint
                stopping.patience = patience
            restore_unsaved_state(trainer, pl_module, self._loaded["unsaved"])
            self._loaded = None
            epochs: Any = trainer.fit_loop.epoch_progress.current
            if trainer.global_step == 0 or epochs.ready == epochs.processed:
                # Under max_steps Lightning would count a step before the epoch's first one, and log one step late.
                trainer.fit_loop.epoch_loop.restarting = False
            self.saved_step = trainer.global_step
        else:
            self._save(trainer)
        self._seen_step, self._stops, self._left_epoch = trainer.global_step, False, False
        self._averages = any(isinstance(one, WeightAveraging) for one in vars(trainer)["callbacks"])
        self.open(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if the interval is over and a resume from here repeats and skips nothing."""
        step = trainer.global_step
        stepped, self._seen_step = step != self._seen_step, step
        stop = self.agreed()
        early = self._stops or (trainer.should_stop and _may_stop(trainer))
        limit = self._is_at_max_steps(trainer)
        if not (stop or early or limit or step - self.saved_step >= self.every_n_train_steps):
            return
        # A time limit waits for such a batch or a validation, so that no open accumulation window is lost.
        trainer.should_stop = trainer.should_stop and not early
        self._stops = early
        if stepped and not self._more_follows(trainer, batch_idx):
            self._save(trainer)
            self._left_epoch, trainer.should_stop = early or limit, trainer.should_stop or early
            if stop:
                self.end(stop)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save and end if a signal was noted in the step before."""
        super().on_validation_start(trainer, pl_module)
        if not self.defers:  # the check before training, or no training at all
            return
        self._validation = {
            "random": random_state(),
            "loggers": _states(trainer),
            "completed": trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.completed,
        }
        stop = self.agreed()
        early = self._stops and not self._left_epoch and not _ends(trainer)
        limit = self._is_at_max_steps(trainer) and not trainer.is_last_batch
        if stop or early or limit:
            self._save_validation(trainer)
            self._left_epoch, trainer.should_stop = early or limit, trainer.should_stop or early
        if stop:
            self.end(stop)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Save and end if a signal was noted.

        Several processes, whose batches may differ in number, end later, and so does a validation of averaged weights.
        """
        if self.noted and self.defers and self._group is None and not self._averages:
            self._save_validation(trainer)
            self.end(self.noted)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Treat a resumed epoch as any other."""
        end_resumed_epoch(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the finished run; one that stopped within an epoch has been saved where it continues."""
        self.close()
        if not (self._left_epoch and self.saved_step == trainer.global_step):
            self._save(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Note no more signals."""
        self.defers = False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the random state of every rank, the state of the loggers, and what else Lightning leaves out."""
        start = self._validation if self._saves_validation else None
        checkpoint["random_states"] = gathered(random_state() if start is None else start["random"])
        checkpoint["loggers"] = _states(trainer) if start is None else start["loggers"]
        if start is not None:
            # As Lightning writes it in the first batch of a validation, all of which it then repeats.
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            for counts, completed in ((progress["total"], start["completed"]), (progress["current"], 0)):
                counts |= {"ready": completed + 1, "started": completed + 1}
                counts |= {"processed": completed, "completed": completed}
        checkpoint["unsaved"] = unsaved_state(trainer)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the states until training starts, because setup may draw random numbers."""
        if trainer.state.fn == "fit":
            empty: dict[str, Any] = {"random_states": [], "loggers": [], "unsaved": {}}
            self._loaded = {name: checkpoint.get(name, default) for name, default in empty.items()}
            stopping = [one for one in vars(trainer)["callbacks"] if isinstance(one, EarlyStopping)]
            self._patience = [(one, one.patience) for one in stopping]

    def _save(self, trainer: pl.Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()  # earlier log entries must be on the disk before the checkpoint
        trainer.save_checkpoint(self.path, weights_only=False)
        self.saved_step = trainer.global_step

    def _save_validation(self, trainer: pl.Trainer) -> None:
        self._saves_validation = True
        try:
            self._save(trainer)
        finally:
            self._saves_validation = False

    @staticmethod
    def _more_follows(trainer: pl.Trainer, batch_idx: int) -> bool:
        """Return whether validation, the end of the epoch or the end of training follows this batch."""
        loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
        validates = fetcher is not None and loop._should_check_val_fx(fetcher)
        return trainer.is_last_batch or validates or loop._num_ready_batches_reached()

    @staticmethod
    def _is_at_max_steps(trainer: pl.Trainer) -> bool:
        """Return whether `max_steps` ends the training here, which continues within the epoch if it is raised."""
        if trainer.global_step != trainer.max_steps:
            return False
        callbacks = vars(trainer)["callbacks"]
        return not any(isinstance(one, StochasticWeightAveraging) for one in callbacks)  # saved at the end


def _may_stop(trainer: pl.Trainer) -> bool:
    """Return whether the Trainer follows `should_stop`, before which `min_steps` and `min_epochs` must be over."""
    least: int = trainer.min_epochs or 0
    return trainer.global_step >= (trainer.min_steps or 0) and trainer.current_epoch >= least


def _ends(trainer: pl.Trainer) -> bool:
    """Return whether training ends with this batch."""
    last_epoch = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
    return last_epoch or trainer.global_step == trainer.max_steps


def _states(trainer: pl.Trainer) -> list[dict[str, Any] | None]:
    """Return the states of the loggers that have one."""
    return [logger.state_dict() if hasattr(logger, "state_dict") else None for logger in trainer.loggers]
