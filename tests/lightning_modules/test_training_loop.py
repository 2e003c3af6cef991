"""Lean steps against Lightning's own: everything that a training leaves behind must be the same."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau, StepLR

from lightning_modules import ImageClassifier
from lightning_modules.callbacks.last_checkpoint import LastCheckpoint
from lightning_modules.callbacks.training_monitor import TrainingMonitor
from lightning_modules.runs.loggers import CSVLog
from lightning_modules.training_loop import LeanEpochLoop, use_lean_steps
from optim import COCOB, LAMB, SAM
from reference.tiny import TinyLoader

OPTIMIZERS = {
    "SGD": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "AdamW": partial(torch.optim.AdamW, lr=0.01),
    "LAMB": partial(LAMB, lr=0.01),
    "COCOB": COCOB,
    "SAM": partial(SAM, base_optimizer=torch.optim.SGD, lr=0.1),
    "LBFGS": partial(torch.optim.LBFGS, lr=0.1, max_iter=3),
}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation": {"accumulate_grad_batches": 3},
    "clipping by norm": {"gradient_clip_val": 0.1},
    "clipping by value": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    "average": {"ema_decay": 0.9},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "64-true": {"precision": "64-true"},
    "schedule per step": {"lr_scheduler": partial(StepLR, step_size=4, gamma=0.5), "lr_interval": "step"},
    "schedule per epoch": {"lr_scheduler": partial(CosineAnnealingLR, T_max=3)},
    "plateau": {"lr_scheduler": partial(ReduceLROnPlateau, patience=0)},
    "validation within epochs": {"val_check_interval": 5},
    "validation by total batches": {"val_check_interval": 7, "check_val_every_n_epoch": None},
    "every second epoch": {"check_val_every_n_epoch": 2},
    "limited": {"limit_train_batches": 7, "limit_val_batches": 1},
    "max_steps": {"max_steps": 17},
    "max_steps, accumulation": {"max_steps": 5, "accumulate_grad_batches": 4, "max_epochs": -1},
    "windows of one": {"log_every_n_steps": 1},
    "windows of one, accumulation": {"log_every_n_steps": 1, "accumulate_grad_batches": 2},
    "no validation": {"limit_val_batches": 0},
}
MODEL_OPTIONS = ("ema_decay", "lr_scheduler", "lr_interval")


class EveryHook(Callback):
    """Records each hook's name and what the Trainer looks like in it."""

    def __init__(self) -> None:
        self.calls: list[Any] = []


def _recording(name: str) -> Any:
    def hook(self: EveryHook, trainer: pl.Trainer, module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:
        shown = [float(one) for one in args if isinstance(one, torch.Tensor) and one.numel() == 1]
        shown += [float(one["loss"]) for one in args if isinstance(one, dict) and "loss" in one]
        progress = trainer.fit_loop.epoch_loop.batch_progress
        state = trainer.global_step, trainer.fit_loop.batch_idx, vars(progress.current), module._current_fx_name
        self.calls.append((name, str(state), shown, trainer.is_last_batch))

    return hook


STEP_HOOKS = [
    *("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_train_batch_end", "on_train_epoch_start", "on_train_epoch_end"),
    *("on_validation_start", "on_validation_end", "on_train_start", "on_train_end"),
]
for _name in STEP_HOOKS:
    setattr(EveryHook, _name, _recording(_name))


def trained(
    folder: Path, lean: bool, module: pl.LightningModule | None = None, ckpt_path: str | None = None, **options: Any
) -> tuple[dict[str, Any], EveryHook, pl.Trainer]:
    """Train; return the last checkpoint, the record of the hooks and the Trainer."""
    pl.seed_everything(0)
    model_options = {name: options.pop(name) for name in MODEL_OPTIONS if name in options}
    optimizer = options.pop("optimizer", OPTIMIZERS["SGD"])
    if module is None:
        module = ImageClassifier("MLP", num_classes=7, image_shape=(5,), optimizer=optimizer, **model_options)
    record, options = EveryHook(), {"max_epochs": 3, "log_every_n_steps": 4, **options}
    last = LastCheckpoint(folder / "last.ckpt", every_n_train_steps=5)
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        logger=[CSVLog(folder / "metrics.csv"), TensorBoardLogger(folder, name="", version="tb")],
        callbacks=[*options.pop("callbacks", []), record, TrainingMonitor(), last], **options,
    )  # fmt: skip
    if lean:
        use_lean_steps(trainer)
    trainer.fit(module, TinyLoader(11), TinyLoader(2), ckpt_path=ckpt_path, weights_only=ckpt_path is not None)
    return torch.load(folder / "last.ckpt", weights_only=True), record, trainer


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Compare nested values bit for bit, except for times."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            if not any(word in str(key) for word in ("seconds", "per_second", "wall", "waiting")):
                assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for place, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{place}]")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True, msg=where)
    else:
        assert one == other or (one != one and other != other), f"{where}: {one} {other}"


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the scalars of an event file."""
    read = EventAccumulator(str(folder / "tb"))
    read.Reload()
    return {tag: [(one.step, one.value) for one in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def rows(folder: Path) -> list[dict[str, str]]:
    """Return the rows of metrics.csv."""
    header, *lines = (folder / "metrics.csv").read_text().splitlines()
    return [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]


def compare(tmp_path: Path, **options: Any) -> int:
    """Train with either loop and compare all they leave; return the number of lean steps."""
    ours, record, trainer = trained(tmp_path / "lean", True, **options)
    theirs, their_record, _ = trained(tmp_path / "lightning", False, **options)
    assert record.calls == their_record.calls
    assert_same(ours, theirs)
    assert_same(events(tmp_path / "lean"), events(tmp_path / "lightning"))
    assert_same(rows(tmp_path / "lean"), rows(tmp_path / "lightning"))
    loop = trainer.fit_loop.epoch_loop
    assert isinstance(loop, LeanEpochLoop)
    return loop.lean_steps


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_bit_for_bit(tmp_path, optimizer, case):
    options = CASES[case]
    if optimizer == "COCOB" and "lr_scheduler" in options:
        pytest.skip("COCOB has no learning rate")
    lean = compare(tmp_path, optimizer=OPTIMIZERS[optimizer], **options)
    assert (lean == 0) == (case == "windows of one")
