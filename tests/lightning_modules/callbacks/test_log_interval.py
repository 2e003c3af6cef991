"""A logging interval that a short run reaches."""

import pytest
import pytorch_lightning as pl

from lightning_modules import TrainingMonitor
from lightning_modules.callbacks.last_checkpoint import LastCheckpoint
from lightning_modules.callbacks.log_interval import FitLogInterval
from lightning_modules.runs.checkpoint_io import AtomicCheckpointIO
from lightning_modules.runs.loggers import CSVLog, read_column
from reference.tiny import TinyLoader, TinyModule


def fit(folder, longest=50, ckpt_path=None, **options):
    trainer = pl.Trainer(
        accelerator="cpu", logger=CSVLog(folder / "metrics.csv"), plugins=[AtomicCheckpointIO()],
        callbacks=[FitLogInterval(longest), TrainingMonitor(), LastCheckpoint(folder / "last.ckpt", 1)],
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, **options,
    )  # fmt: skip
    trainer.fit(TinyModule(lr=0.1), TinyLoader(), ckpt_path=ckpt_path, weights_only=True)
    return trainer.log_every_n_steps


BATCHES = len(TinyLoader())


@pytest.mark.parametrize(
    ("options", "every"),
    [
        ({"max_epochs": 1}, BATCHES),
        ({"max_epochs": 1, "accumulate_grad_batches": 3}, -(-BATCHES // 3)),
        ({"max_epochs": 1, "limit_train_batches": 2}, 2),
        ({"max_steps": 3}, 3),
        ({"max_epochs": 1, "longest": 4}, 4),
    ],
)
def test_the_interval_is_reached(tmp_path, options, every):
    assert fit(tmp_path, **options) == every
    assert read_column(tmp_path / "metrics.csv", "train/learning_rate")[0][0] == every - 1


def test_a_resumed_training_keeps_its_interval(tmp_path):
    assert fit(tmp_path, max_steps=2) == 2
    assert fit(tmp_path, max_steps=4, ckpt_path=tmp_path / "last.ckpt") == 2
    assert [step for step, _ in read_column(tmp_path / "metrics.csv", "train/learning_rate")] == [1, 3]


def test_the_longest_interval_is_checked():
    with pytest.raises(ValueError, match="longest must be at least 1, found 0"):
        FitLogInterval(0)
