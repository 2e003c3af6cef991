"""A tiny dropout network and a loader whose order depends on the epoch only, for tests of resuming."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn


class TinyLoader:
    """Batches of random points in an order that depends on the epoch alone."""

    def __init__(self, batches: int = 6, batch_size: int = 4) -> None:
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(batches * batch_size, 5, generator=generator)
        self.y = (self.x[:, 0] > 0).long()
        self.batch_size, self.epoch, self.batch = batch_size, 0, 0
        self.sampler, self.batch_sampler = self, None

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.batch = epoch, 0

    def __len__(self) -> int:
        return len(self.x) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.batch %= len(self)
        order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(self.epoch)).split(self.batch_size)
        for position in range(self.batch, len(self)):
            self.batch = position + 1
            yield self.x[order[position]], self.y[order[position]]

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.batch = state["epoch"], state["batch"]


class TinyModule(pl.LightningModule):
    """Two layers with dropout; records its losses and hooks."""

    def __init__(self, lr: float = 0.1, break_at: int = -1) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 2))
        self.lr, self.break_at = lr, break_at
        self.losses: dict[int, float] = {}
        self.validations: list[int] = []
        self.epoch_ends: list[int] = []

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        if self.trainer.global_step == self.break_at:
            loss = loss * float("nan")
        self.losses[self.trainer.current_epoch * 1000 + batch_idx] = float(loss.detach())
        return {"loss": loss}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def on_validation_epoch_end(self) -> None:
        self.validations.append(self.trainer.global_step)

    def on_train_epoch_end(self) -> None:
        self.epoch_ends.append(self.trainer.current_epoch)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97), "interval": "step"},
        }
