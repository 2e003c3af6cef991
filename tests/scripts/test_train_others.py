"""train.py with somebody else's data module and callbacks: what belongs to the training, and what is tested."""

import csv
import json

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

import train

CPU = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
CALLBACKS = {
    "ModelCheckpoint": {"save_top_k": -1, "filename": "each-{epoch}"},
    "LearningRateMonitor": {},
    "DeviceStatsMonitor": {},
    "OnExceptionCheckpoint": {"dirpath": "."},
}


class Plain(pl.LightningDataModule):
    """Data without class names and without a loader for predictions; `labels=False` predicts from images alone."""

    num_classes, image_shape = 3, (4,)

    def _loader(self, *parts):
        return DataLoader(TensorDataset(*parts), batch_size=6)

    def setup(self, stage):
        generator = torch.Generator().manual_seed(0)
        self.parts = torch.randn(12, 4, generator=generator), torch.arange(12) % 3

    def train_dataloader(self):
        return self._loader(*self.parts)

    val_dataloader = test_dataloader = train_dataloader


class Unlabelled(Plain):
    """Predicts for examples without labels."""

    def predict_dataloader(self):
        return DataLoader(self.parts[0], batch_size=6)


def run(root, *words):
    return train.main([*words, *CPU, "--trainer.default_root_dir", str(root)])


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A run with callbacks that need checkpoints or a logger, as two processes would have written its configuration."""
    root = tmp_path_factory.mktemp("runs")
    words = ["--data", f"{__name__}.Plain", "--model.backbone", "MLP", "--trainer.max_epochs", "2"]
    for name, options in CALLBACKS.items():
        words += [f"--trainer.callbacks+={name}"]
        for option, value in options.items():
            words += [f"--trainer.callbacks.{option}", str(root) if option == "dirpath" else str(value)]
    return run(root, *words).run.folder


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_callbacks_of_the_training_stay_there(watched, command):
    config = (watched / "config.yaml").read_text()
    if command == "predict":  # after DDP, whose predictions one process makes
        first, _, *rest = (
            config.replace("devices: auto", "devices: 2").replace("strategy: auto", "strategy: ddp").split("\n")
        )
        (watched / "config.yaml").write_text("\n".join([first, *rest]))  # without its checksum
    cli = run(watched.parent, command, "--ckpt_path", str(watched / "checkpoints" / "best.ckpt"))
    assert cli.trainer.num_devices == 1
    (watched / "config.yaml").write_text(config)


def test_predictions_without_names_of_classes(watched):
    with open(watched / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [str(i % 3) for i in range(12)]
    assert {"probability_0", "probability_1", "probability_2"} <= rows[0].keys()


def test_predictions_without_labels(watched):
    best = str(watched / "checkpoints" / "best.ckpt")
    run(watched.parent, "predict", "--ckpt_path", best, "--data", f"{__name__}.Unlabelled")
    with open(watched / "predictions.csv") as file:
        assert {row["label"] for row in csv.DictReader(file)} == {""}


def test_the_results_are_those_of_the_best_checkpoint(watched):
    """And not those of the newest file of a ModelCheckpoint of one's own."""
    again = run(watched.parent, "test", "--ckpt_path", str(watched / "checkpoints" / "best.ckpt"))
    results = json.loads((watched / "results.json").read_text())
    assert json.loads((again.run.folder / "test.json").read_text())["test/nll"] == results["test/nll"]
    assert len(list(watched.rglob("each-*.ckpt"))) == 2


def test_the_direction_follows_from_the_metric(tmp_path, capsys):
    words = ["--data", f"{__name__}.Plain", "--model.backbone", "MLP", "--trainer.max_epochs", "1", "--monitor_metric"]
    cli = run(tmp_path, *words, "val/accuracy")
    assert next(one for one in cli.callbacks if hasattr(one, "monitor")).mode == "max"
    for metric, mode, message in (("val/f1", [], "monitor_mode"), ("val/f1", ["--monitor_mode", "max"], "no 'val/f1'")):
        with pytest.raises(SystemExit):
            run(tmp_path / "wrong", *words, metric, *mode)
        assert message in capsys.readouterr().err
    assert not list((tmp_path / "wrong").glob("*"))
