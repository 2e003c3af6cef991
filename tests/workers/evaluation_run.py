"""A classifier with fixed outputs, for tests of the evaluation callbacks; as a script, it runs on two processes.

Image `i` contains its own index in its first pixel, so that the outputs, and everything that is logged, depend on the
data alone.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from evaluation import CalibrationError
from evaluation.callbacks import CalibrationMonitor, MistakesMonitor

CLASSES = ["cat", "dog", "frog"]


def answers(count: int, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return logits `[count, classes]` and labels `[count]`, right for about two thirds of the samples."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    logits = 2 * torch.randn(count, classes, generator=generator)
    return logits + 2 * nn.functional.one_hot(labels, classes), labels


def images_of(count: int, flat: bool = False) -> Tensor:
    """Return images `[count, 1, 4, 4]` (or `[count, 16]`), image `i` filled with `i`."""
    images = torch.arange(count, dtype=torch.float32)[:, None, None, None].expand(count, 1, 4, 4).contiguous()
    return images.flatten(1) if flat else images


class FixedAnswers(pl.LightningModule):
    """Returns row `i` of a table as the logits of image `i`; each validation loader has a table of its own."""

    def __init__(self, tables: Sequence[Tensor]) -> None:
        super().__init__()
        self.tables = tables
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, Tensor]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.weight * batch[0].mean()

    def _answer(self, batch: Any, table: int) -> dict[str, Tensor]:
        images, labels = batch
        index = images.flatten(1)[:, 0].long()
        self.seen.append((table, index))
        return {"logits": self.tables[table][index], "labels": labels}

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        return self._answer(batch, dataloader_idx)

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return self._answer(batch, 0)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Data(pl.LightningDataModule):
    """Images that contain their index, in one or several loaders of given sizes."""

    def __init__(self, labels: Sequence[Tensor], batch_size: int = 7, flat: bool = False) -> None:
        super().__init__()
        self.labels, self.batch_size, self.flat = labels, batch_size, flat
        self.classes = CLASSES
        self.mean, self.std = [0.0], [1 / 255]

    def _loader(self, labels: Tensor) -> DataLoader:
        return DataLoader(TensorDataset(images_of(len(labels), self.flat), labels), batch_size=self.batch_size)

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.labels[0][:14])

    def val_dataloader(self) -> Any:
        loaders = [self._loader(labels) for labels in self.labels]
        return loaders if len(loaders) > 1 else loaders[0]

    def test_dataloader(self) -> DataLoader:
        return self._loader(self.labels[0])


def trainer(folder: Path, callbacks: list[pl.Callback], **options: Any) -> pl.Trainer:
    """Return a quiet CPU trainer that writes to TensorBoard in `folder`."""
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    quiet |= {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "log_every_n_steps": 1}
    quiet["logger"] = TensorBoardLogger(folder, name="", version="")
    return pl.Trainer(callbacks=callbacks, **(quiet | options))


def main() -> None:
    """Validate on two processes; the first one writes the logged error and that of the synchronised metric."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    logits, labels = answers(101)
    module, data = FixedAnswers([logits]), Data([labels])
    two = trainer(folder, [CalibrationMonitor(), MistakesMonitor(images=9)], devices=2, strategy="ddp")
    two.validate(module, data, verbose=False)
    mine = torch.cat([index for _, index in module.seen])
    metric = CalibrationError(from_logits=True)
    metric.update(logits[mine], labels[mine])
    error, seen = metric.compute(), two.strategy.all_gather(mine)  # a collective: on both processes
    if two.is_global_zero:
        report = {"ece": two.callback_metrics["val/ece"].item(), "metric": error.item(), "seen": seen.tolist()}
        (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
