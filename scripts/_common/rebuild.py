"""A trained network and its data, rebuilt from a checkpoint and the config.yaml of its run."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from _common.run import ROOT, run_of
from lightning_modules import ImageClassifier
from lightning_modules.runs.checkpoint_io import read_checkpoint


@dataclass(frozen=True)
class TrainedRun:
    """A checkpoint of a run.

    Attributes:
        folder: The run's folder.
        config: What its config.yaml says.
        model: The network, on the device of the trainer.
        datamodule: Its data, with the same split, on the same device.
        trainer: A trainer with the run's precision, for the device.
    """

    folder: Path
    config: dict[str, Any]
    model: ImageClassifier
    datamodule: pl.LightningDataModule
    trainer: pl.Trainer


def rebuild(checkpoint: str | Path, accelerator: str = "auto") -> TrainedRun:
    """Rebuild a checkpoint's network, data and split.

    Args:
        checkpoint: A checkpoint in a run's folder, as ``train.py`` makes them.
        accelerator: Lightning's name of the device.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, or does not lie in a run's folder.
    """
    read_checkpoint(checkpoint)
    folder = run_of(checkpoint)
    if folder is None:
        raise ValueError(
            f"{checkpoint} does not lie in a run's folder, so that its data and split are unknown: "
            "give RUN/checkpoints/best.ckpt beside RUN/config.yaml"
        )
    config = yaml.safe_load((folder / "config.yaml").read_text())
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=config["trainer"].get("precision") or "32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = ImageClassifier.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    datamodule = build_data(config["data"])
    datamodule.trainer = trainer  # which says where the data lie
    return TrainedRun(folder, config, model.to(trainer.strategy.root_device).eval(), datamodule, trainer)


def train_default(root: str | Path = ROOT) -> Path:
    """Train what ``train.py`` trains without arguments, the digits, and return the checkpoint.

    Args:
        root: Folder of the runs.
    """
    import train  # which imports what all of training needs

    folder = train.main(["fit", "--trainer.default_root_dir", str(root)]).run.folder / "checkpoints"
    return next(path for path in (folder / "best.ckpt", folder / "last.ckpt") if path.is_file())


def build_data(config: dict[str, Any]) -> pl.LightningDataModule:
    """Build the data module that a configuration describes by ``class_path`` and ``init_args``."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(pl.LightningDataModule, "data")
    return parser.instantiate(parser.parse_object({"data": config})).data


class AtPrecision(nn.Module):
    """A network that is evaluated as a trainer does it: with its inputs and its autocast.

    Args:
        model: Maps images to logits.
        trainer: Its precision counts.
    """

    def __init__(self, model: nn.Module, trainer: pl.Trainer) -> None:
        super().__init__()
        self.plugin = trainer.precision_plugin
        self.model = self.plugin.convert_module(model)

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 logits, or float64 ones."""
        context: AbstractContextManager[Any] = self.plugin.val_step_context()
        with context:
            logits = self.model(self.plugin.convert_input(images))
        return logits if logits.element_size() > 2 else logits.float()
