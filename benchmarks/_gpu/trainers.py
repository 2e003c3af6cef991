"""Training by Lightning: scripts/train.py as it is, and the way in which most people use a Trainer."""

import contextlib
import functools
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy
from torchvision import transforms

from lightning_modules.callbacks.progress import TrainingProgress
from train import TrainCLI, find_run  # the script

from .clocked import Clocked
from .data import RandomImages
from .loops import Setting
from .one_by_one import OneByOne


@contextlib.contextmanager
def quiet() -> Iterator[Path]:
    """Yield a temporary folder for a run, whose printing is dropped."""
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.ERROR)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield Path(folder)


def accelerator(setting: Setting) -> str:
    """Return Lightning's name of the device."""
    return "cpu" if setting.device == "cpu" else "gpu"


def ours(words: tuple[str, ...], setting: Setting, clocked: Clocked) -> None:
    """Train as `scripts/train.py` with these words does, its bar drawn into a terminal that is not there."""
    with quiet() as folder:
        # --data names a set only so that no recipe is taken: the batches are the clocked ones.
        cli = TrainCLI([
            *("fit", "--data", "DigitsDataModule", "--trainer.default_root_dir", str(folder)),
            *("--trainer.accelerator", accelerator(setting), "--trainer.devices", "1", "--trainer.max_epochs", "1"),
            *("--trainer.precision", setting.precision, "--model.backbone", setting.backbone, *words),
        ])  # fmt: skip
        cli.build(find_run(cli))
        for callback in cli.callbacks:
            if isinstance(callback, TrainingProgress):
                callback.console = Console(force_terminal=True, file=io.StringIO())
        cli.trainer.limit_val_batches = 0
        cli.model.image_shape = (3, 32, 32)
        cli.model.backbone = setting.network()
        if cli.model.channels_last:
            cli.model.backbone.to(memory_format=torch.channels_last)
        cli.trainer.fit(cli.model, clocked, [])


class Idiom(pl.LightningModule):
    """The usual idiom: loss and accuracy logged on step and epoch and shown in the bar."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.accuracy = MulticlassAccuracy(10, average="micro")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Log loss and accuracy."""
        logits = self.network(batch[0])
        loss = F.cross_entropy(logits, batch[1])
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("train_accuracy", self.accuracy(logits, batch[1]), on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer of the other loops, as torch builds it by default."""
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


@functools.cache
def arrays(count: int) -> np.ndarray:
    """Return random images `[N, H, W, C]`."""
    images, _ = RandomImages(count).read("train")
    return np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())


def usual_loader(setting: Setting, workers: int, count: int) -> DataLoader[Any]:
    """Return torchvision's transforms in a DataLoader."""
    transform = transforms.Compose([
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(RandomImages.mean, RandomImages.std),
    ])  # fmt: skip
    pin = setting.device != "cpu"
    return DataLoader(
        OneByOne(arrays(count), transform), setting.batch, shuffle=True, drop_last=True, num_workers=workers,
        pin_memory=pin,
    )  # fmt: skip


def idiom(setting: Setting, clocked: Clocked) -> None:
    """Train as most people set a Trainer up."""
    with quiet() as folder:
        bar = RichProgressBar(console_kwargs={"force_terminal": True, "file": io.StringIO()})
        trainer = pl.Trainer(
            accelerator=accelerator(setting), devices=1, precision=setting.precision, max_epochs=1,
            logger=[TensorBoardLogger(folder), CSVLogger(folder)], callbacks=[ModelCheckpoint(folder), bar],
            enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Idiom(setting.network()), clocked)
