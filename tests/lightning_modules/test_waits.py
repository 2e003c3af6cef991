"""Waits and copies of a step and of a window of the log, counted on a CPU."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import CSVLog, ImageClassifier, TensorBoardLog, TrainingMonitor, TrainingProgress
from lightning_modules.backbones import resnet20
from lightning_modules.restoring import restored
from lightning_modules.training_loop import use_lean_steps
from optim import COCOB
from reference.counting import Waits


class Watch(pl.Callback):
    """Counts from step 10 to 40, in which two windows of 15 steps end."""

    def __init__(self):
        self.waits = Waits()

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == 10:
            self.waits.__enter__()
        if batch_idx == 40:
            self.waits.__exit__(None, None, None)


# LAMB and SAM read the host's own numbers in a step on a CPU; `test_gpu.py` watches theirs.
@pytest.mark.parametrize("make", [lambda params: torch.optim.SGD(params, lr=0.01), COCOB], ids=["SGD", "COCOB"])
def test_a_window_of_the_log_is_one_copy_to_the_host_and_a_step_none(make, tmp_path):
    data = TensorDataset(torch.randn(42, 4, 5), torch.randint(7, (42, 4)))
    watch = Watch()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, log_every_n_steps=15, enable_checkpointing=False, enable_model_summary=False,
        logger=[TensorBoardLog(tmp_path), CSVLog(tmp_path / "metrics.csv")],
        callbacks=[TrainingMonitor(), TrainingProgress(), watch],
    )  # fmt: skip
    use_lean_steps(trainer)
    trainer.fit(ImageClassifier("MLP", 7, (5,), optimizer=make, ema_decay=0.9), DataLoader(data, batch_size=None))
    assert watch.waits.counts == {"tolist": 2}


def test_restoring_a_networks_buffers_is_two_launches_for_each_type(monkeypatch):
    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = resnet20(10, (3, 32, 32), nn.ReLU)

    calls, module = [], Module()
    copy = torch._foreach_copy_
    monkeypatch.setattr(torch, "_foreach_copy_", lambda *args: calls.append(len(args[0])) or copy(*args))
    with restored(module):
        module.network.train()(torch.randn(2, 3, 32, 32))
    assert sorted(calls) == [19, 19, 38, 38]  # of 57 buffers: the counters, the means and variances
    assert not any(buffer.any() for name, buffer in module.named_buffers() if "num_batches" in name)
