"""What a Trainer costs: scripts/train.py's defaults against a hand-written loop and the usual Lightning idiom.

    python benchmarks/trainer_overhead.py
    python benchmarks/trainer_overhead.py --device cuda      # resnet20 in bfloat16 and float32 on a GPU

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
from dataclasses import dataclass
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
sys.path[:1] = [str(Path(__file__).parent.parent / "scripts"), str(Path(__file__).parent.parent)]

from benchmarks._record import write_record
from lightning_modules.backbones import TwoLayerNet, resnet20
from lightning_modules.callbacks.progress import TrainingProgress
from train import TrainCLI, find_run  # the script, once its folder is on the path

WARM_UP = 30


@dataclass
class Case:
    """A network, its data, and how long it is timed."""

    backbone: str
    build: Callable[..., torch.nn.Module]
    shape: tuple[int, ...]
    batch: int
    warm_up: int
    steps: int
    rounds: int
    device: str = "cpu"
    bf16: bool = False

    def network(self) -> torch.nn.Module:
        """Return a new network, a convolutional one in channels-last format."""
        network = self.build(10, self.shape, torch.nn.ReLU).to(self.device)
        return network.to(memory_format=torch.channels_last) if self.backbone == "resnet20" else network

    def optimizer(self, network: torch.nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer that all variants have."""
        return torch.optim.SGD(network.parameters(), lr=0.1, fused=self.device == "cuda" or None)

    def trainer(self, **options: Any) -> pl.Trainer:
        """Return a Trainer of one epoch."""
        precision = "bf16-mixed" if self.bf16 else "32-true"
        return pl.Trainer(
            accelerator=self.device, devices=1, precision=precision, max_epochs=1, enable_model_summary=False, **options
        )


class TimedLoader:
    """The batches of a tensor set in memory, in order, and the time between two of them."""

    def __init__(self, case: Case, images: Tensor, labels: Tensor) -> None:
        self.batches = list(zip(images, labels, strict=True))
        self.case = case
        self.seconds = float("nan")

    def __len__(self) -> int:
        return self.case.warm_up + self.case.steps + 1

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        began = 0.0
        for step in range(len(self)):
            if step in (self.case.warm_up, self.case.warm_up + self.case.steps):
                if self.case.device == "cuda":
                    torch.cuda.synchronize()
                self.seconds, began = time.perf_counter() - began, time.perf_counter()
            yield self.batches[step % len(self.batches)]


def by_hand(case: Case, loader: TimedLoader, folder: Path) -> None:
    """Train as every tutorial does."""
    network = case.network()
    optimizer = case.optimizer(network)
    for images, labels in loader:
        optimizer.zero_grad()
        with torch.autocast(case.device, torch.bfloat16, enabled=case.bf16):
            loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()


def by_hand_with_metrics(case: Case, loader: TimedLoader, folder: Path) -> None:
    """Train by hand, and keep the sums of loss, negative log-likelihood, accuracy and top-5 accuracy."""
    network = case.network()
    optimizer = case.optimizer(network)
    sums, examples = torch.zeros(4, dtype=torch.float64, device=case.device), 0
    for images, labels in loader:
        optimizer.zero_grad()
        with torch.autocast(case.device, torch.bfloat16, enabled=case.bf16):
            logits = network(images)
            loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            nll = F.cross_entropy(logits.float(), labels, reduction="sum")
            correct = (logits.argmax(1) == labels).sum()
            among_five = (logits.topk(5).indices == labels[:, None]).any(1).sum()
            sums += torch.stack([loss.detach() * len(labels), nll, correct, among_five])
        examples += len(labels)


class Plain(pl.LightningModule):
    """The least a LightningModule can be."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case, self.network = case, case.network()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Nothing but the loss."""
        return F.cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer that all variants have."""
        return self.case.optimizer(self.network)


class Idiom(Plain):
    """What most people write: everything logged on step and epoch and shown in the bar."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.accuracy = MulticlassAccuracy(10, average="micro")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Log loss and accuracy."""
        logits = self.network(batch[0])
        loss = F.cross_entropy(logits, batch[1])
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("train_accuracy", self.accuracy(logits, batch[1]), on_step=True, on_epoch=True, prog_bar=True)
        return loss


def bare_trainer(case: Case, loader: TimedLoader, folder: Path) -> None:
    """A Trainer with everything off."""
    trainer = case.trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Plain(case), loader)


def usual_idiom(case: Case, loader: TimedLoader, folder: Path) -> None:
    """A Trainer as most people set it up."""
    loggers = [TensorBoardLogger(folder), CSVLogger(folder)]
    trainer = case.trainer(logger=loggers, callbacks=[ModelCheckpoint(folder), RichProgressBar()])
    trainer.fit(Idiom(case), loader)


def ours(case: Case, loader: TimedLoader, folder: Path, *options: str) -> None:
    """scripts/train.py with its defaults; its bar draws into a terminal that is not there."""
    # --data names the set only so that no recipe is taken: the batches are the loader's.
    cli = TrainCLI([
        *("fit", "--data", "DigitsDataModule", "--trainer.default_root_dir", str(folder), "--trainer.max_epochs", "1"),
        *("--trainer.accelerator", case.device, "--trainer.devices", "1"),
        *("--trainer.precision", "bf16-mixed" if case.bf16 else "32-true"),
        *("--model.backbone", case.backbone, "--optimizer", "SGD", "--optimizer.lr", "0.1", *options),
    ])  # fmt: skip
    cli.build(find_run(cli))
    bar = next(callback for callback in cli.callbacks if isinstance(callback, TrainingProgress))
    bar.console = Console(force_terminal=True, file=io.StringIO())
    cli.trainer.limit_val_batches = 0
    cli.model.image_shape = case.shape
    cli.model.backbone = case.network()
    cli.trainer.fit(cli.model, loader, [])


def measure(case: Case, variants: dict[str, Callable[..., None]]) -> Table:
    """Time every variant once a round and give the table of ratios to the hand-written loop."""
    count = min(case.warm_up + case.steps + 1, 64)
    images = torch.randn(count, case.batch, *case.shape, device=case.device)
    if case.backbone == "resnet20":
        images = torch.stack([one.contiguous(memory_format=torch.channels_last) for one in images])
    labels = torch.randint(10, (count, case.batch), device=case.device)
    seconds: dict[str, list[float]] = {label: [] for label in variants}
    for _ in range(case.rounds):
        for label, run in variants.items():
            torch.backends.cudnn.benchmark = case.device == "cuda"
            loader = TimedLoader(case, images, labels)
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
                run(case, loader, Path(folder))
            seconds[label].append(loader.seconds / case.steps)
    where = f"{torch.get_num_threads()} threads" if case.device == "cpu" else torch.cuda.get_device_name()
    kind = "bfloat16" if case.bf16 else "float32"
    title = f"{case.backbone}, batch {case.batch}, {kind}, {case.rounds} rounds of {case.steps} steps, {where}"
    table = Table("variant", "times the hand-written loop (quartiles)", "ms a step", title=title)
    for label, times in seconds.items():
        ratios = [time / base for time, base in zip(times, seconds["hand-written loop"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        table.add_row(label, f"{middle:.2f} ({low:.2f} to {high:.2f})", f"{statistics.median(times) * 1e3:.3f}")
    return table


VARIANTS: dict[str, Callable[..., None]] = {
    "hand-written loop": by_hand,
    "hand-written, keeping the same metrics": by_hand_with_metrics,
    "bare Trainer, nothing on": bare_trainer,
    "scripts/train.py, all its defaults": ours,
    "usual idiom: self.log, torchmetrics, bar": usual_idiom,
}


def main(
    rounds: int = 15,
    steps: int = 1000,
    resnet_rounds: int = 15,
    resnet_steps: int = 8,
    device: str = "cpu",
    results: Path | None = None,
) -> None:
    """Measure both networks, or resnet20 on a GPU.

    Args:
        rounds: Rounds for the two-layer network, at least 2; 0 for none.
        steps: Its timed steps a round: at the default cadence 5 checkpoints and 20 log lines.
        resnet_rounds: Rounds for resnet20, at least 2; 0 for none.
        resnet_steps: Its timed steps a round.
        device: `cpu` or `cuda`.
        results: JSON file to write the tables to, such as results/NAME.json.
    """
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")  # a benchmark's own process: nothing but the tables
    console, shape = Console(), (3, 32, 32)
    cases = [
        Case("TwoLayerNet", TwoLayerNet, (1, 28, 28), 100, 30, steps, rounds),
        Case("resnet20", resnet20, shape, 128, 2, resnet_steps, resnet_rounds),
    ]
    if device == "cuda":
        cases = [
            Case("resnet20", resnet20, shape, batch, 30, max(resnet_steps, 100), resnet_rounds, device, bf16)
            for batch, bf16 in ((512, True), (128, False))
        ]
    tables = []
    for case in cases:
        if case.rounds < 2:
            continue
        tables.append(measure(case, VARIANTS))
        console.print(tables[-1])
    write_record(results, tables)
    console.print("scripts/train.py: curves every 50 steps, last checkpoint every 200 steps, bar drawn twice a second")


if __name__ == "__main__":
    auto_cli(main)
