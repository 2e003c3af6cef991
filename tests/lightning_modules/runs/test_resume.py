"""A run resumed from any checkpoint ends as the run that was never stopped, bit for bit."""

import shutil
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from lightning_modules.callbacks.last_checkpoint import LastCheckpoint
from lightning_modules.callbacks.training_monitor import TrainingMonitor
from lightning_modules.runs.checkpoint_io import AtomicCheckpointIO
from lightning_modules.runs.loggers import CSVLog
from reference.tiny import TinyLoader, TinyModule


class KeepEvery(LastCheckpoint):
    """A LastCheckpoint that keeps a copy of each save."""

    def _save(self, trainer):
        super()._save(trainer)
        if trainer.training:
            shutil.copy(self.path, self.path.with_name(f"step{trainer.global_step}.ckpt"))


def train(folder: Path, ckpt_path=None, every=1, callbacks=(), **options):
    pl.seed_everything(3, verbose=False)
    module, log = TinyModule(), CSVLog(folder / "metrics.csv")
    # At the end of validation: what Lightning saves at the end of the training epoch does not resume under max_steps.
    best = pl.callbacks.ModelCheckpoint(
        folder, monitor="val/loss", filename="best-{step}", save_top_k=-1, save_on_train_epoch_end=False
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=log,
        log_every_n_steps=5,
        num_sanity_val_steps=0,
        callbacks=[TrainingMonitor(), KeepEvery(folder / "last.ckpt", every), best, *callbacks],
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, TinyLoader(), TinyLoader(2), ckpt_path=ckpt_path)
    return module, log


def rows(log: CSVLog) -> list[str]:
    """The logged rows without the speed, which no two runs share."""
    header, *lines = [line.split(",") for line in log.path.read_text().splitlines()]
    timed = {index for index, name in enumerate(header) if "second" in name}
    return [",".join(value for index, value in enumerate(line) if index not in timed) for line in [header, *lines]]


OPTIONS = {
    "epochs": {"max_epochs": 3},
    "steps": {"max_steps": 15},
    "accumulate": {"max_epochs": 3, "accumulate_grad_batches": 4},
    "validation in mid-epoch": {"max_epochs": 3, "val_check_interval": 3},
    "one batch an epoch": {"max_epochs": 5, "limit_train_batches": 1},
}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(one, id=name, marks=[] if name == "validation in mid-epoch" else [pytest.mark.slow])
        for name, one in OPTIONS.items()
    ],
)
def test_resume_from_every_checkpoint_is_exact(tmp_path, options):
    whole, log = train(tmp_path / "whole", **options)
    checkpoints = sorted((tmp_path / "whole").glob("*step*.ckpt"))
    assert len(checkpoints) >= 5
    for number, checkpoint in enumerate(checkpoints):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(log.path, folder / "metrics.csv")
        resumed, resumed_log = train(folder, ckpt_path=checkpoint, **options)
        for name, value in whole.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), (checkpoint.name, name)
        assert resumed.losses.items() <= whole.losses.items(), checkpoint.name
        assert len(resumed.losses) < len(whole.losses) or "step0" in checkpoint.name
        if checkpoint.name.startswith("step"):
            done = torch.load(checkpoint, weights_only=True)["global_step"]
            assert resumed.validations == [step for step in whole.validations if step > done], checkpoint.name
            assert whole.epoch_ends[len(whole.epoch_ends) - len(resumed.epoch_ends) :] == resumed.epoch_ends, (
                checkpoint.name
            )
            assert rows(resumed_log) == rows(log), checkpoint.name
