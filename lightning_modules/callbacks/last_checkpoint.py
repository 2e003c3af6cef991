"""The checkpoint that a killed run goes on from."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint


class LastCheckpoint(Checkpoint):
    """Saves one file every ``every_n_train_steps`` optimizer steps, from which training goes on bit for bit.

    Lightning's ModelCheckpoint can save at a batch after which validation or the end of the epoch follows; a run
    resumed from there leaves both out. This one waits for the next batch in that case, saves once before the first
    step (so that a run killed early can be resumed too) and once at the end.

    Every checkpoint of the Trainer, not only this one, gets what Lightning does not save: the state of each rank's
    random number generators (PyTorch, CUDA, numpy, Python), without which dropout differs after a resume, and the state
    of loggers that have one (:class:`~lightning_modules.runs.loggers.CSVLog`).

    Args:
        path: The file. It is overwritten, atomically when the Trainer has
            :class:`~lightning_modules.runs.checkpoint_io.AtomicCheckpointIO`.
        every_n_train_steps: How many optimizer steps a kill may cost at most (one more at the end of an epoch).

    Raises:
        ValueError: If ``every_n_train_steps`` is less than 1.

    Example:
        >>> LastCheckpoint("runs/one/checkpoints/last.ckpt", every_n_train_steps=100).every_n_train_steps
        100
    """

    def __init__(self, path: str | Path, every_n_train_steps: int = 200) -> None:
        if every_n_train_steps < 1:
            raise ValueError(f"every_n_train_steps must be at least 1, found {every_n_train_steps}")
        self.path = Path(path)
        self.every_n_train_steps = every_n_train_steps
        self.saved_step = -1  # the optimizer step of the newest save or load
        self._seen_step = -1
        self._loaded: dict[str, Any] | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Agree on rank 0's path."""
        self.path = trainer.strategy.broadcast(self.path)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the generators back on resume; save step 0 on a fresh start."""
        if self._loaded is not None:
            _restore_random_state(self._loaded["random_states"], trainer.global_rank)
            for logger, state in zip(trainer.loggers, self._loaded["loggers"], strict=False):
                if state is not None and hasattr(logger, "load_state_dict"):
                    logger.load_state_dict(state)
            self._loaded = None
            if trainer.global_step == 0:
                # Under max_steps Lightning would count the step before the first one as done, and log one step late.
                trainer.fit_loop.epoch_loop.restarting = False
            self.saved_step = self._seen_step = trainer.global_step
        else:
            self._save(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time, but only where a resume repeats nothing and leaves nothing out."""
        step = trainer.global_step
        stepped, self._seen_step = step != self._seen_step, step
        due = step - self.saved_step >= self.every_n_train_steps or trainer.received_sigterm
        if due and stepped and not self._more_follows(trainer, batch_idx):
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the finished run."""
        self._save(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """On SIGTERM at the end of an epoch, where Lightning stops by itself, save that point."""
        at_epoch_end = (
            trainer.fit_loop.epoch_progress.current.completed == trainer.fit_loop.epoch_progress.current.ready
        )
        if trainer.received_sigterm and trainer.training and at_epoch_end:
            self._save(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add every rank's random state, and the loggers'."""
        checkpoint["random_states"] = _gather(_random_state())
        checkpoint["loggers"] = [
            logger.state_dict() if hasattr(logger, "state_dict") else None for logger in trainer.loggers
        ]

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the states until training starts: setting up may draw numbers."""
        if trainer.state.fn == "fit":
            self._loaded = {name: checkpoint.get(name, []) for name in ("random_states", "loggers")}

    def _save(self, trainer: pl.Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()  # what was logged before the checkpoint must be on the disk before it
        trainer.save_checkpoint(self.path, weights_only=False)
        self.saved_step = trainer.global_step

    @staticmethod
    def _more_follows(trainer: pl.Trainer, batch_idx: int) -> bool:
        """Whether validation, the end of the epoch or the end of training comes right after this batch."""
        loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
        validates = fetcher is not None and loop._should_check_val_fx(fetcher)
        return trainer.is_last_batch or validates or loop._is_training_done


def _random_state() -> dict[str, Any]:
    """The generators' states as plain data and tensors, which load with ``weights_only=True``."""
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
        return  # a checkpoint of fewer processes, or of plain Lightning, has nothing for this one
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
