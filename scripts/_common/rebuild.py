"""Rebuilding a trained network and its data from a checkpoint and the config.yaml of its run."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from _common.errors import hush
from _common.names import classifier_path, read_config
from _common.run import ROOT, run_of
from _common.trust import checked_config, packages
from lightning_modules import ImageClassifier
from lightning_modules.paths import load, public_path
from lightning_modules.runs.checkpoint_io import read_checkpoint


@dataclass(frozen=True)
class TrainedRun:
    """A checkpoint of a run.

    Attributes:
        folder: Folder of the run.
        config: Contents of its config.yaml.
        model: Network, on the trainer's device.
        datamodule: Data with the run's split, on the same device.
        trainer: Trainer with the run's precision.
    """

    folder: Path
    config: dict[str, Any]
    model: ImageClassifier
    datamodule: pl.LightningDataModule
    trainer: pl.Trainer


def rebuild(checkpoint: str | Path, accelerator: str = "auto", trust: str = "") -> TrainedRun:
    """Rebuild a checkpoint's network, data and split.

    Args:
        checkpoint: Checkpoint in the folder of a run of train.py.
        accelerator: Lightning's name of the device.
        trust: Packages that the checkpoint and its run's config.yaml may name, besides those that every file may.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a checkpoint, is not in the folder of a run, or names what it may not.
    """
    read_checkpoint(checkpoint)
    folder = run_of(checkpoint)
    if folder is None:
        raise ValueError(
            f"{checkpoint} is not in the folder of a run, which holds its data and split: "
            "give RUN/checkpoints/best.ckpt beside RUN/config.yaml"
        )
    hush()
    classifier = classifier_class(classifier_path(checked_config(folder, trust)))
    config = read_config((folder / "config.yaml").read_text())
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=config["trainer"].get("precision") or "32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = classifier.load_from_checkpoint(checkpoint, map_location="cpu", trust=packages(trust))
    datamodule = build_data(config["data"])
    datamodule.trainer = trainer  # whose device the data go to
    return TrainedRun(folder, config, model.to(trainer.strategy.root_device).eval(), datamodule, trainer)


def classifier_class(path: str | None) -> type[ImageClassifier]:
    """Return `ImageClassifier`, or the subclass at an import path.

    Raises:
        ValueError: If there is no such subclass, or importing it fails.
    """
    found = ImageClassifier if path is None else imported("--model", path)
    if not (isinstance(found, type) and issubclass(found, ImageClassifier)):
        raise ValueError(f"--model {path} must be a subclass of lightning_modules.ImageClassifier, found {found!r}")
    return found


def with_classifier(config: dict[str, Any], classifier: type[ImageClassifier]) -> dict[str, Any]:
    """Return a configuration whose `model` names its class, unless that is `ImageClassifier`."""
    if classifier is ImageClassifier:
        return config
    return config | {"model": {"class_path": public_path(classifier), "init_args": config["model"]}}


def imported(option: str, path: str) -> Any:
    """Return the object at an import path that the user typed, or None.

    Raises:
        ValueError: If importing its module fails, with the reason.
    """
    try:
        return load(path)
    except Exception as error:  # whatever the user's module raises
        raise ValueError(f"{option} {path}: the import failed: {type(error).__name__}: {error}") from error


def train_default(root: str | Path = ROOT) -> Path:
    """Train the digits recipe under `root`, the folder of the runs, and return the checkpoint."""
    import train

    folder = train.main(["fit", "--trainer.default_root_dir", str(root)]).run.folder / "checkpoints"
    return next(path for path in (folder / "best.ckpt", folder / "last.ckpt") if path.is_file())


def build_data(config: dict[str, Any]) -> pl.LightningDataModule:
    """Return the data module that a configuration describes by `class_path` and `init_args`."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(pl.LightningDataModule, "data")
    return parser.instantiate(parser.parse_object({"data": config})).data


class AtPrecision(nn.Module):
    """Runs a network at the Trainer's precision.

    Args:
        model: Maps images to logits.
        trainer: Trainer that defines the precision.
    """

    def __init__(self, model: nn.Module, trainer: pl.Trainer) -> None:
        super().__init__()
        self.plugin = trainer.precision_plugin
        self.model = self.plugin.convert_module(model)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits in float32 or float64."""
        context: AbstractContextManager[Any] = self.plugin.val_step_context()
        with context:
            logits = self.model(self.plugin.convert_input(images))
        return logits if logits.element_size() > 2 else logits.float()
