"""A deep network on 300 images, with and without weight decay, L1 and dropout."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.optim import SGD

from _common.digit_images import Source
from _common.errors import quiet_lightning
from datamodules import DigitsDataModule, MNISTDataModule
from lightning_modules import ImageClassifier
from lightning_modules.backbones import MLP

EXAMPLES, BATCH_SIZE, HIDDEN, LR, MOMENTUM = 300, 100, (100,) * 6, 0.05, 0.9
COLOURS = {"none": "#c1272d", "weight decay": "#4878a8", "L1": "#3f8f4f", "dropout": "#d98c21"}


class AccuracyCurves(pl.Callback):
    """Record the accuracy on all training and test images in evaluation mode, every few epochs.

    The accuracy that training logs is measured with dropout, and while the weights change.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.epochs: list[int] = []
        self.curves: dict[str, list[float]] = {"train": [], "test": []}
        self.examples: dict[str, tuple[Tensor, Tensor]] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the images, and measure before training."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        data.setup("test")
        for name, loader in (("train", data.train_dataloader()), ("test", data.test_dataloader())):
            images, labels = zip(*loader, strict=True)
            self.examples[name] = torch.cat(images), torch.cat(labels)
        self.measure(pl_module, 0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure every few epochs, and after the last."""
        epoch = trainer.current_epoch + 1
        if epoch % self.every == 0 or epoch == trainer.max_epochs:
            self.measure(pl_module, epoch)
            for logger in trainer.loggers:
                now = {f"accuracy/{name}": values[-1] for name, values in self.curves.items()}
                logger.log_metrics(now | {"accuracy/gap": now["accuracy/train"] - now["accuracy/test"]}, step=epoch)

    @torch.no_grad()
    def measure(self, model: pl.LightningModule, epoch: int) -> None:
        """Add a point to both curves."""
        was_training = model.training
        model.eval()
        self.epochs.append(epoch)
        for name, (images, labels) in self.examples.items():
            correct = model(images.to(model.device)).argmax(1) == labels.to(model.device)
            self.curves[name].append(correct.double().mean().item())
        model.train(was_training)


def train_all(
    data: Source, data_dir: str | None, epochs: int, repeats: int, strengths: dict[str, float], folder: Path, seed: int
) -> dict[str, Any]:
    """Train each variant `repeats` times; return its curves, mean final accuracies and their gap."""
    rows: dict[str, Any] = {}
    for name, strength in {"none": 0.0, **strengths}.items():
        options = {} if name == "none" else {name.lower().replace(" ", "_"): strength}
        runs = []
        for run_seed in range(seed, seed + repeats):
            logger = TensorBoardLogger(folder, "tensorboard", f"{name.replace(' ', '_')}-{run_seed}")
            runs.append(train(data, data_dir, epochs, logger, run_seed, **options))
        curves = {part: [run.curves[part] for run in runs] for part in ("train", "test")}
        final = {part: np.array([curve[-1] for curve in each]) for part, each in curves.items()}
        rows[name] = {
            "strength": strength,
            "train_accuracy": float(final["train"].mean()),
            "test_accuracy": float(final["test"].mean()),
            "gap": float((final["train"] - final["test"]).mean()),
            "test_deviation": float(final["test"].std(ddof=1)) if repeats > 1 else None,
            "epochs": runs[0].epochs,
            "curves": curves,
        }
    return rows


def train(
    data: Source, data_dir: str | None, epochs: int, logger: TensorBoardLogger, seed: int, **strengths: float
) -> AccuracyCurves:
    """Train one network with the given `weight_decay`, `l1` and `dropout`, and return its curves."""
    options: dict[str, Any] = {"train_size": EXAMPLES, "val_size": 0, "batch_size": BATCH_SIZE, "seed": seed}
    module = MNISTDataModule(data_dir=data_dir, **options) if data == "mnist" else DigitsDataModule(**options)
    pl.seed_everything(seed, verbose=False)
    model = ImageClassifier(
        partial(MLP, hidden=HIDDEN, dropout=strengths.get("dropout", 0.0)),
        image_shape=module.image_shape,
        optimizer=partial(SGD, lr=LR, momentum=MOMENTUM, weight_decay=strengths.get("weight_decay", 0.0)),
        l1=strengths.get("l1", 0.0),
    )
    for layer in model.modules():
        if isinstance(layer, nn.Linear):  # torch's default initialisation makes the signal vanish over so many layers
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    curves = AccuracyCurves(every=max(1, epochs // 40))
    trainer = pl.Trainer(
        accelerator="cpu",  # for so small a network, a GPU is no faster
        max_epochs=epochs,
        logger=logger,
        callbacks=[curves],
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with quiet_lightning(".*smaller than the logging interval"):  # an epoch has three batches
        trainer.fit(model, module)
    return curves


def draw(rows: dict[str, Any], title: str) -> Figure:
    """Draw the training and test curves of each variant in a panel of its own."""
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    for axes, (name, row) in zip(figure.subplots(1, len(rows), sharey=True), rows.items(), strict=True):
        epochs, colour = row["epochs"], COLOURS[name]
        curves = {part: 100 * np.array(row["curves"][part]) for part in ("train", "test")}
        for (part, values), style in zip(curves.items(), ("--", "-"), strict=True):
            axes.plot(epochs, values.mean(0), style, color=colour, label=f"{part}, {values[:, -1].mean():.1f}%")
            axes.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
        axes.fill_between(epochs, *(curves[part].mean(0) for part in ("test", "train")), color="#ccc", alpha=0.4, lw=0)
        strength = f", {row['strength']:g}" if row["strength"] else ""
        axes.set(title=f"{name}{strength}: gap {100 * row['gap']:.1f} points", xlabel="epoch")
        axes.legend(loc="lower right", fontsize=9)
        axes.grid(alpha=0.3)
    # The curves' ends matter: the first epochs are below the axis.
    lowest = min(100 * row["test_accuracy"] for row in rows.values())
    figure.axes[0].set(ylabel="accuracy, %", ylim=(max(0.0, lowest - 20), 101.5))
    figure.suptitle(title, fontsize=11)
    return figure
