"""What a Trainer costs: scripts/train.py's defaults against a hand-written loop and the usual Lightning idiom.

    python benchmarks/trainer_overhead.py

All train the same network on the same resident batches with the same optimizer; what differs is the loop around them.
In each round every variant trains once, one after the other, and the time between two batches, some steps apart, is
taken: start-up, validation and the end of training are left out, logging and checkpoints in between are in.
"""

import contextlib
import io
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from jsonargparse import auto_cli
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

# Instead of this folder, whose files have the packages' names.
sys.path[0] = str(Path(__file__).parent.parent / "scripts")

from lightning_modules.backbones import TwoLayerNet, resnet20
from lightning_modules.callbacks.progress import TrainingProgress
from train import TrainCLI, find_run  # the script, once its folder is on the path

WARM_UP = 30


class TimedLoader:
    """The batches of a tensor set in memory, in order, and the time between two of them."""

    def __init__(self, images: Tensor, labels: Tensor, warm_up: int, steps: int) -> None:
        self.batches = list(zip(images, labels, strict=True))
        self.warm_up, self.steps = warm_up, steps
        self.seconds = float("nan")

    def __len__(self) -> int:
        return self.warm_up + self.steps + 1

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        began = 0.0
        for step in range(len(self)):
            if step == self.warm_up:
                began = time.perf_counter()
            if step == self.warm_up + self.steps:
                self.seconds = time.perf_counter() - began
            yield self.batches[step % len(self.batches)]


Network = Callable[[], torch.nn.Module]


def by_hand(network: Network, loader: TimedLoader, folder: Path) -> None:
    """The loop of every tutorial."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for images, labels in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()


class Plain(pl.LightningModule):
    """The least a LightningModule can be."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Nothing but the loss."""
        return F.cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer that all variants have."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Idiom(Plain):
    """What most people write: everything logged on step and epoch and shown in the bar."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.accuracy = MulticlassAccuracy(10, average="micro")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Log loss and accuracy."""
        logits = self.network(batch[0])
        loss = F.cross_entropy(logits, batch[1])
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("train_accuracy", self.accuracy(logits, batch[1]), on_step=True, on_epoch=True, prog_bar=True)
        return loss


def bare_trainer(network: Network, loader: TimedLoader, folder: Path) -> None:
    """A Trainer with everything off."""
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Plain(network), loader)


def usual_idiom(network: Network, loader: TimedLoader, folder: Path) -> None:
    """A Trainer as most people set it up."""
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=[TensorBoardLogger(folder), CSVLogger(folder)],
        callbacks=[ModelCheckpoint(folder), RichProgressBar()], enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Idiom(network), loader)


def ours(backbone: str, network: Network, loader: TimedLoader, folder: Path) -> None:
    """scripts/train.py with its defaults; its bar draws into a terminal that is not there."""
    # --data names the set only so that no recipe is taken: the batches are the loader's.
    cli = TrainCLI([
        *("fit", "--data", "DigitsDataModule", "--trainer.default_root_dir", str(folder), "--trainer.max_epochs", "1"),
        *("--trainer.accelerator", "cpu", "--model.backbone", backbone, "--optimizer", "SGD", "--optimizer.lr", "0.1"),
    ])  # fmt: skip
    cli.build(find_run(cli))
    bar = next(callback for callback in cli.callbacks if isinstance(callback, TrainingProgress))
    bar.console = Console(force_terminal=True, file=io.StringIO())
    cli.trainer.limit_val_batches = 0
    cli.model.image_shape = tuple(loader.batches[0][0].shape[1:])
    cli.model.backbone = network()
    cli.trainer.fit(cli.model, loader, [])


def measure(
    name: str, network: Network, shape: tuple[int, ...], batch: int, warm_up: int, steps: int, rounds: int
) -> Table:
    """Time every variant once a round and give the table of ratios to the hand-written loop."""
    count = min(warm_up + steps + 1, 64)
    images, labels = torch.randn(count, batch, *shape), torch.randint(10, (count, batch))
    variants: dict[str, Callable[..., None]] = {
        "hand-written loop": by_hand,
        "bare Trainer, nothing on": bare_trainer,
        "scripts/train.py, all its defaults": lambda *args: ours(name, *args),
        "usual idiom: self.log, torchmetrics, bar": usual_idiom,
    }
    seconds: dict[str, list[float]] = {label: [] for label in variants}
    for _ in range(rounds):
        for label, run in variants.items():
            loader = TimedLoader(images, labels, warm_up, steps)
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
                run(network, loader, Path(folder))
            seconds[label].append(loader.seconds / steps)
    title = f"{name}, batch {batch}, {rounds} rounds of {steps} steps, {torch.get_num_threads()} threads"
    table = Table("variant", "times the hand-written loop (quartiles)", "ms a step", title=title)
    for label, times in seconds.items():
        ratios = [time / base for time, base in zip(times, seconds["hand-written loop"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        table.add_row(label, f"{middle:.2f} ({low:.2f} to {high:.2f})", f"{statistics.median(times) * 1e3:.3f}")
    return table


def main(rounds: int = 11, steps: int = 1000, resnet_rounds: int = 9, resnet_steps: int = 8) -> None:
    """Measure both networks.

    Args:
        rounds: Rounds for the two-layer network.
        steps: Its timed steps a round: at the default cadence 5 checkpoints and 20 log lines.
        resnet_rounds: Rounds for resnet20.
        resnet_steps: Its timed steps a round.
    """
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")  # a benchmark's own process: nothing but the tables
    console = Console()
    two_layer = lambda: TwoLayerNet(10, (1, 28, 28), torch.nn.ReLU)  # noqa: E731
    console.print(measure("TwoLayerNet", two_layer, (1, 28, 28), 100, WARM_UP, steps, rounds))
    resnet = lambda: resnet20(10, (3, 32, 32), torch.nn.ReLU)  # noqa: E731
    console.print(measure("resnet20", resnet, (3, 32, 32), 128, 2, resnet_steps, resnet_rounds))
    console.print(
        "scripts/train.py: curves every 50 steps, last checkpoint every 200 steps, bar drawn 4 times a second"
    )


if __name__ == "__main__":
    auto_cli(main)
