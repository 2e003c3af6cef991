"""State of training that Lightning does not save or does not restore; with the private names that this takes."""

import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, StochasticWeightAveraging
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason
from torch import Tensor

_CHECKPOINT_NAMES = (
    "current_score",
    "_last_global_step_saved",
    "_last_checkpoint_saved",
    "_defer_save_until_validation",
)


def unsaved_state(trainer: pl.Trainer) -> dict[str, Any]:
    """Return the state, as plain data and tensors.

    It holds the metrics that callbacks and `ReduceLROnPlateau` read before they are logged again, what each
    `ModelCheckpoint` knows of its last save, and the optimizer steps in an epoch.
    """
    return {
        "steps_per_epoch": steps_per_epoch(trainer),
        "callback_metrics": {name: value.detach().cpu() for name, value in trainer.callback_metrics.items()},
        "model_checkpoints": {
            one.state_key: {name: getattr(one, name) for name in _CHECKPOINT_NAMES}
            for one in trainer.checkpoint_callbacks
            if isinstance(one, ModelCheckpoint)
        },
    }


def steps_per_epoch(trainer: pl.Trainer) -> int | None:
    """Return the number of optimizer steps in an epoch of today's arguments, or None if it has no end."""
    batches = trainer.num_training_batches
    return math.ceil(batches / trainer.accumulate_grad_batches) if math.isfinite(batches) else None


def restore_unsaved_state(trainer: pl.Trainer, module: pl.LightningModule, state: dict[str, Any]) -> None:
    """Restore the result of `unsaved_state`, and what follows from the state that Lightning has restored.

    Call it in `on_train_start`.
    """
    metrics = {
        name: value.to(trainer.strategy.root_device) for name, value in state.get("callback_metrics", {}).items()
    }
    trainer.callback_metrics.update(metrics)
    for one in trainer.checkpoint_callbacks:
        for name, value in state.get("model_checkpoints", {}).get(one.state_key, {}).items():
            if name in _CHECKPOINT_NAMES:
                setattr(one, name, value)
        if isinstance(one, ModelCheckpoint):
            _overwrite_newer_files(trainer, one)
    callbacks = vars(trainer)["callbacks"]
    if any(isinstance(one, EarlyStopping) and has_stopped(one, trainer.callback_metrics) for one in callbacks):
        trainer.should_stop = True
    for one in callbacks:
        if isinstance(one, StochasticWeightAveraging):
            _start_averaging(trainer, module, one)


def _overwrite_newer_files(trainer: pl.Trainer, saving: ModelCheckpoint) -> None:
    """Let a resumed training write again what was written after its checkpoint, not a second version beside it."""
    newer: set[str] = set()
    resumed = trainer.is_global_zero and trainer.ckpt_path is not None and Path(trainer.ckpt_path).is_file()
    if resumed and saving.dirpath is not None:
        known = {*saving.best_k_models, saving.best_model_path, saving.last_model_path}
        since = Path(str(trainer.ckpt_path)).stat().st_mtime_ns
        files = [file for file in Path(saving.dirpath).glob("*.ckpt") if file.stat().st_mtime_ns > since]
        newer = {str(file) for file in files if str(file) not in known}
    newer, exists = trainer.strategy.broadcast(newer), saving.file_exists

    def file_exists(filepath: Any, trainer: pl.Trainer) -> bool:
        found = exists(filepath, trainer) and str(filepath) not in newer
        newer.discard(str(filepath))
        return found

    saving.file_exists = file_exists  # type: ignore[method-assign]  # of this object, which may be the user's


def has_stopped(stopping: EarlyStopping, metrics: dict[str, Tensor]) -> bool:
    """Return whether the training before the checkpoint was told to stop, and would be with today's arguments."""
    reason, value = stopping.stopping_reason, metrics.get(stopping.monitor)
    if reason == EarlyStoppingReason.PATIENCE_EXHAUSTED:
        return stopping.wait_count >= stopping.patience
    if reason == EarlyStoppingReason.STOPPING_THRESHOLD and value is not None:
        threshold = stopping.stopping_threshold
        return threshold is not None and bool(stopping.monitor_op(value, threshold))
    if reason == EarlyStoppingReason.DIVERGENCE_THRESHOLD and value is not None:
        threshold = stopping.divergence_threshold
        return threshold is not None and bool(stopping.monitor_op(-value, -threshold))
    return reason != EarlyStoppingReason.NOT_STOPPED


def _start_averaging(trainer: pl.Trainer, module: pl.LightningModule, averaging: StochasticWeightAveraging) -> None:
    """Start an averaging that ran when the checkpoint was saved.

    It starts with an epoch, and would otherwise miss the rest of this one. Starting changes the learning rate.
    """
    loop = trainer.fit_loop
    if not (loop.restarted_mid_epoch or loop.restarted_on_epoch_end) or averaging._scheduler_state is None:
        return
    groups = trainer.optimizers[0].param_groups
    kept = [dict(group) for group in groups]
    averaging.on_train_epoch_start(trainer, module)
    for group, before in zip(groups, kept, strict=True):
        group.update(before)


def end_resumed_epoch(trainer: pl.Trainer) -> None:
    """Let `ReduceLROnPlateau` step at the end of an epoch that was resumed; call it in `on_train_epoch_end`.

    Lightning leaves that step out because its checkpoints lack the metrics, which ours have.
    """
    vars(trainer.fit_loop)["_restarting"] = False  # the property's setter would restart the inner loops too
