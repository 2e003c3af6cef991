"""Two processes under Lightning get every example once, in the batches of one process."""

from itertools import chain

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from datamodules import DigitsDataModule
from datamodules.pipeline.placement import process


class Recorder(pl.LightningModule):
    """Records the sums and labels of every batch, in one file per process."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.layer = folder, nn.Linear(64, 10)
        self.batches = {"train": [], "val": [], "test": []}

    def record(self, stage, batch):
        images, labels = batch
        self.batches[stage].append((images.double().sum((1, 2, 3)).tolist(), labels.tolist()))

    def training_step(self, batch, batch_idx):
        self.record("train", batch)
        return nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

    def validation_step(self, batch, batch_idx):
        self.record("val", batch)

    def on_fit_end(self):
        torch.save(self.batches, f"{self.folder}/{self.trainer.world_size}-{self.trainer.global_rank}.pt")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def run(folder, devices, batch_size):
    # 90 training examples: a last batch of two, one for each process.
    data = DigitsDataModule(
        batch_size=batch_size, eval_batch_size=batch_size, train_size=90, val_size=51, seed=1, crop_padding=1
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp_spawn" if devices > 1 else "auto",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )
    trainer.fit(Recorder(str(folder)), data)
    return [torch.load(f"{folder}/{devices}-{rank}.pt") for rank in range(devices)]


@pytest.mark.slow
def test_two_processes_see_the_batches_of_one(tmp_path):
    (single,) = run(tmp_path, 1, 8)
    ranks = run(tmp_path, 2, 4)
    for stage in ("train", "val"):
        assert {len(rank[stage]) for rank in ranks} == {len(single[stage])}
        for position, (sums, labels) in enumerate(single[stage]):
            assert list(chain.from_iterable(rank[stage][position][1] for rank in ranks)) == labels
            assert list(chain.from_iterable(rank[stage][position][0] for rank in ranks)) == sums


def test_process_without_lightning(monkeypatch):
    assert process() == (0, 1)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 5)
    assert process() == (2, 5)
    data = DigitsDataModule(train_size=100)
    data.setup()
    assert len(torch.cat([labels for _, labels in data.train_dataloader()])) == 20
