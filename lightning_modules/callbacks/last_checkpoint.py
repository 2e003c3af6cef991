"""The checkpoint from which a killed run resumes."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping
from pytorch_lightning.plugins.precision import DoublePrecision

from ..runs.unsaved_state import end_resumed_epoch, restore_unsaved_state, unsaved_state


class LastCheckpoint(Checkpoint):
    """Saves one file every `every_n_train_steps` optimizer steps, from which training resumes bit for bit.

    Lightning's ModelCheckpoint can save at a batch that is followed by validation or the end of the epoch; a run
    resumed from there skips both. This one then waits for the next batch. It also saves once before the first step, so
    that a run killed early can be resumed, and once at the end.

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

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Use rank 0's path on every rank, and float64 weights before a checkpoint of them is loaded."""
        self.path = trainer.strategy.broadcast(self.path)
        if isinstance(trainer.precision_plugin, DoublePrecision):  # Lightning converts them after loading
            pl_module.double()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore generators and loggers on resume; save step 0 otherwise."""
        if self._loaded is not None:
            _restore_random_state(self._loaded["random_states"], trainer.global_rank)
            for logger, state in zip(trainer.loggers, self._loaded["loggers"], strict=False):
                if state is not None and hasattr(logger, "load_state_dict"):
                    logger.load_state_dict(state)
            for stopping, patience in self._patience:  # which Lightning takes from the checkpoint
                stopping.patience = patience
            restore_unsaved_state(trainer, pl_module, self._loaded["unsaved"])
            self._loaded = None
            if trainer.global_step == 0:
                # Under max_steps Lightning would count a step before the first one, and log one step late.
                trainer.fit_loop.epoch_loop.restarting = False
            self.saved_step = self._seen_step = trainer.global_step
        else:
            self._save(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if the interval is over and a resume from here repeats and skips nothing."""
        step = trainer.global_step
        stepped, self._seen_step = step != self._seen_step, step
        due = step - self.saved_step >= self.every_n_train_steps or trainer.received_sigterm
        if due and stepped and not self._more_follows(trainer, batch_idx):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Treat a resumed epoch as any other."""
        end_resumed_epoch(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the finished run."""
        self._save(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save when SIGTERM stops Lightning at the end of an epoch."""
        at_epoch_end = (
            trainer.fit_loop.epoch_progress.current.completed == trainer.fit_loop.epoch_progress.current.ready
        )
        if trainer.received_sigterm and trainer.training and at_epoch_end:
            self._save(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the random state of every rank, the state of the loggers, and what else Lightning leaves out."""
        checkpoint["random_states"] = _gather(_random_state())
        checkpoint["loggers"] = [
            logger.state_dict() if hasattr(logger, "state_dict") else None for logger in trainer.loggers
        ]
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

    @staticmethod
    def _more_follows(trainer: pl.Trainer, batch_idx: int) -> bool:
        """Return whether validation, the end of the epoch or the end of training follows this batch."""
        loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
        validates = fetcher is not None and loop._should_check_val_fx(fetcher)
        return trainer.is_last_batch or validates or loop._is_training_done


def _random_state() -> dict[str, Any]:
    """Return the generators' states as plain data and tensors, which load with `weights_only=True`."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [
            str(name),
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "python": random.getstate(),
    }


def _restore_random_state(states: list[dict[str, Any]], rank: int) -> None:
    if rank >= len(states):
        return  # the checkpoint is from fewer processes, or from plain Lightning
    state = states[rank]
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([cuda.cpu() for cuda in state["cuda"]])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
    random.setstate(state["python"])


def _gather(state: dict[str, Any]) -> list[dict[str, Any]]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [state]
    states: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(states, state)
    return states
