"""A run that is killed in a step, in validation and between epochs is exact with every scheduler and callback."""

import shutil
from collections import Counter
from contextlib import nullcontext
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, StochasticWeightAveraging
from torch import nn
from torch.optim import lr_scheduler as schedulers

from lightning_modules.callbacks.best_checkpoint import BestCheckpoint
from lightning_modules.callbacks.last_checkpoint import LastCheckpoint
from lightning_modules.callbacks.training_monitor import TrainingMonitor
from lightning_modules.runs.checkpoint_io import AtomicCheckpointIO
from reference.tiny import TinyLoader, TinyModule


class Killed(Exception):
    """The end of a process."""


class Scheduled(TinyModule):
    """A module with any scheduler that calls `meet` with the name of a hook and how often it was called."""

    def __init__(self, make, interval, meet):
        super().__init__()
        self.net.insert(1, nn.BatchNorm1d(8))
        self.make, self.interval, self.meet, self.calls = make, interval, meet, Counter()

    def _meet(self, hook):
        self.calls[hook] += 1
        self.meet((hook, self.calls[hook]))

    def on_train_epoch_start(self):
        self._meet("epoch")

    def training_step(self, batch, batch_idx):
        self._meet("step")
        return super().training_step((batch[0].to(self.dtype), batch[1]), batch_idx)

    def validation_step(self, batch, batch_idx):
        if not self.trainer.sanity_checking:
            self._meet("validation")
        super().validation_step((batch[0].to(self.dtype), batch[1]), batch_idx)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        scheduler = self.make(optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": self.interval, "monitor": "val/loss"},
        }


def warm_up(optimizer):
    parts = [schedulers.LinearLR(optimizer, 0.1, 1.0, 2), schedulers.OneCycleLR(optimizer, 0.3, total_steps=20)]
    return schedulers.ChainedScheduler([schedulers.SequentialLR(optimizer, parts, [2])], optimizer)


SCHEDULERS = {
    "StepLR": (partial(schedulers.StepLR, step_size=2, gamma=0.7), "step"),
    "cosine": (partial(schedulers.CosineAnnealingLR, T_max=4), "epoch"),
    "OneCycleLR": (partial(schedulers.OneCycleLR, max_lr=0.3, total_steps=20), "step"),
    "plateau": (partial(schedulers.ReduceLROnPlateau, patience=0, threshold=0.5, factor=0.5), "epoch"),
    "SequentialLR": (warm_up, "step"),
    "warm restarts": (partial(schedulers.CosineAnnealingWarmRestarts, T_0=3, T_mult=2), "step"),
}
CALLBACKS = {
    "early stopping": (
        lambda _: EarlyStopping("val/loss", patience=1, min_delta=1.0),
        {"max_epochs": 9, "min_epochs": 4},
    ),
    "second checkpoint": (
        lambda folder: ModelCheckpoint(folder / "second", every_n_train_steps=2, monitor="val/loss", save_top_k=2),
        {"val_check_interval": 3},
    ),
    "averaging": (lambda _: StochasticWeightAveraging(0.05, swa_epoch_start=2, annealing_epochs=2), {}),
    "accumulation": (lambda _: TrainingMonitor(), {"accumulate_grad_batches": 3}),
}
KILLS = [("step", 10), ("validation", 5), ("epoch", 4)]


def train(folder, scheduler, callbacks, precision="32-true", kill=None, mode="min", keep=None, **more):
    """Train, from the last checkpoint if there is one; return the module and the trainer.

    The process is killed in the call `kill`; what a kill would leave in each call of `KILLS` is copied to `keep`.
    """
    make, interval = SCHEDULERS[scheduler]
    own = [CALLBACKS[name][0](folder) for name in callbacks]
    options = {key: value for name in callbacks for key, value in CALLBACKS[name][1].items()}

    def meet(call):
        if call == kill:
            raise Killed(call)
        if keep is not None and call in KILLS:
            shutil.copytree(folder, keep / call[0])

    last = LastCheckpoint(folder / "last.ckpt", every_n_train_steps=2)
    best = BestCheckpoint(folder / "best.ckpt", "val/loss", mode)
    torch.manual_seed(3)
    module = Scheduled(make, interval, meet)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, num_sanity_val_steps=0, precision=precision, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[*own, best, last], plugins=[AtomicCheckpointIO()],
        **({"max_epochs": 4} | options | more),
    )  # fmt: skip
    resumed = last.path if last.path.exists() else None
    with pytest.raises(Killed) if kill else nullcontext():
        trainer.fit(module, TinyLoader(4), TinyLoader(2), ckpt_path=resumed, weights_only=True)
    return module, trainer


def content(folder):
    """Return what the checkpoints of a run hold, by file, but for the times and the state of Lightning's loops."""
    files = {str(path.relative_to(folder)): torch.load(path, weights_only=True) for path in folder.rglob("*.ckpt")}
    return {name: {**checkpoint, "loops": None} for name, checkpoint in files.items()}


def same(left, right, place=""):
    """Check that two structures are equal, bit for bit."""
    assert type(left) is type(right), place
    if isinstance(left, dict):
        assert left.keys() == right.keys(), place
        for key in left:
            same(left[key], right[key], f"{place}/{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), place
        for key, pair in enumerate(zip(left, right, strict=True)):
            same(*pair, f"{place}/{key}")
    elif isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype, place
        assert torch.equal(left, right), place
    elif "seconds" not in place:
        assert left == right, place


PAIRS = [("early stopping", "second checkpoint"), ("averaging", "accumulation")]  # two callbacks a run
CASES = [  # each scheduler with both precisions, each pair too; the second of each is slow
    pytest.param(scheduler, pair, ("32-true", "64-true")[(row + column) % 2], marks=[pytest.mark.slow] * column)
    for row, scheduler in enumerate(SCHEDULERS)
    for column, pair in enumerate(PAIRS)
]


@pytest.mark.parametrize(("scheduler", "pair", "precision"), CASES)
def test_killed_in_a_step_in_validation_and_between(tmp_path, scheduler, pair, precision):
    folder, kept, kills = tmp_path / "run", tmp_path / "whole", tmp_path / "kills"
    whole, uninterrupted = train(folder, scheduler, pair, precision, keep=kills)
    folder.rename(kept)  # the checkpoints hold the folder's name
    for hook, _ in KILLS:
        (kills / hook).rename(folder)
        # The first one is killed once more.
        for kill in [("validation", 2), None] if hook == "step" else [None]:
            resumed, trainer = train(folder, scheduler, pair, precision, kill)
        assert len(resumed.losses) < len(whole.losses)
        assert trainer.global_step == uninterrupted.global_step
        same(whole.state_dict(), resumed.state_dict())
        same(content(kept), content(folder))
        assert next(resumed.parameters()).dtype is (torch.float64 if precision == "64-true" else torch.float32)
        shutil.rmtree(folder)


def test_a_training_that_was_stopped_early_does_not_train_on(tmp_path):
    _, trainer = train(tmp_path, "StepLR", ["early stopping"], min_epochs=None)
    assert trainer.current_epoch < 9
    before = content(tmp_path)
    again, trainer = train(tmp_path, "StepLR", ["early stopping"], min_epochs=None)
    assert not again.losses
    same(before, content(tmp_path))


def test_a_training_that_was_stopped_early_takes_more_patience(tmp_path, monkeypatch):
    _, trainer = train(tmp_path, "StepLR", ["early stopping"], min_epochs=None)
    stopped = trainer.current_epoch
    patient = lambda _: EarlyStopping("val/loss", patience=3, min_delta=1.0)  # noqa: E731
    monkeypatch.setitem(CALLBACKS, "early stopping", (patient, {"max_epochs": 9}))
    _, trainer = train(tmp_path, "StepLR", ["early stopping"])
    assert trainer.current_epoch == stopped + 2


def test_the_best_is_that_of_both_parts(tmp_path):
    first, second, moved = (tmp_path / name for name in ("first", "second", "moved"))
    highest = {"mode": "max"}  # of the loss, which falls
    train(first, "StepLR", ["accumulation"], **highest)
    best = content(first)["best.ckpt"]
    second.mkdir()
    shutil.copy(first / "last.ckpt", second)
    train(second, "StepLR", ["accumulation"], max_epochs=6, **highest, kill=("validation", 3))
    same(best, content(second)["best.ckpt"])
    second.rename(moved)  # the file that the checkpoint names is gone
    train(moved, "StepLR", ["accumulation"], max_epochs=6, **highest)
    same(best, content(moved)["best.ckpt"])


def test_a_later_best_is_not_overwritten_by_a_worse_one(tmp_path):
    train(tmp_path, "StepLR", ["accumulation"], kill=("validation", 3))
    shutil.copy(tmp_path / "last.ckpt", tmp_path / "older")
    train(tmp_path, "StepLR", ["accumulation"])
    best = content(tmp_path)["best.ckpt"]
    (tmp_path / "older").replace(tmp_path / "last.ckpt")
    train(tmp_path, "StepLR", ["accumulation"], max_epochs=3)
    same(best, content(tmp_path)["best.ckpt"])


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_value_that_is_not_finite_is_never_the_best(tmp_path, mode):
    best, trainer = BestCheckpoint(tmp_path / "best.ckpt", "val/loss", mode), pl.Trainer(logger=False)
    for value in (torch.nan, torch.inf, -torch.inf):
        assert not best.check_monitor_top_k(trainer, torch.tensor(value))
    assert best.check_monitor_top_k(trainer, torch.tensor(1.0))
